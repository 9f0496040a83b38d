"""Which kernel attention runs on: by block, process, environment and option; refused with a reason, and noted."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anndata
import pytest
import stzoo
import torch
from stzoo.cli.main import run
from stzoo.core.errors import UsageError
from stzoo.core.io.synthetic import synthetic_section
from stzoo.core.io.write import write
from stzoo.core.model import provenance_of
from stzoo.core.nn import scaled_dot_product as module
from stzoo.core.nn.backends import attention_backend, use_attention
from stzoo.core.nn.scaled_dot_product import attention, backend_in_use


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch):
    monkeypatch.setenv("STZOO_ATTENTION", "")  # so that what a command sets is taken back
    yield
    use_attention(None)


@pytest.fixture
def ran(monkeypatch):
    """Note which kernels run."""
    seen = []
    for name in ("scaled_dot_product_attention", "chunked_attention"):
        whole = getattr(module, name)

        def watched(*tensors, name=name, whole=whole, **options):
            seen.append({"chunked_attention": "chunked"}.get(name, "sdpa"))
            return whole(*tensors, **options)

        monkeypatch.setattr(module, name, watched)
    return seen


def tensors(dtype=torch.float32):
    return [torch.randn(1, 2, n, 8, generator=torch.Generator().manual_seed(n), dtype=dtype) for n in (5, 7, 7)]


@pytest.mark.parametrize(("name", "kernel"), [("", "sdpa"), ("auto", "sdpa"), ("sdpa", "sdpa"), ("chunked", "chunked")])
def test_the_environment_chooses(monkeypatch, ran, name, kernel):
    monkeypatch.setenv("STZOO_ATTENTION", name)
    attention(*tensors())
    assert ran == [kernel]
    assert backend_in_use() == kernel


def test_the_nearer_choice_counts(monkeypatch, ran):
    monkeypatch.setenv("STZOO_ATTENTION", "chunked")
    use_attention("sdpa")
    with ThreadPoolExecutor(1) as pool:  # the process's choice holds in every thread
        pool.submit(attention, *tensors()).result()
    with attention_backend("chunked"):
        attention(*tensors())
        attention(*tensors(), backend="sdpa")
        with attention_backend("auto"):
            attention(*tensors())
    use_attention(None)
    attention(*tensors())
    assert ran == ["sdpa", "chunked", "sdpa", "sdpa", "chunked"]


def test_what_does_not_exist_is_refused(monkeypatch):
    for choose in (use_attention, lambda name: attention_backend(name).__enter__()):
        with pytest.raises(UsageError, match=r"no attention backend 'chunkd'; did you mean 'chunked'"):
            choose("chunkd")
    for name in ("chunkd", "naive"):
        monkeypatch.setenv("STZOO_ATTENTION", name)
        with pytest.raises(UsageError, match=rf"no attention backend '{name}'(.|\n)*STZOO_ATTENTION(.|\n)*one of auto"):
            attention(*tensors())


def test_what_does_not_run_is_refused_with_the_reason(monkeypatch):
    monkeypatch.setenv("STZOO_ATTENTION", "xformers")
    for ask in (lambda: attention(*tensors()), backend_in_use):
        with pytest.raises(UsageError, match=r"xformers runs on CUDA only, and the tensors are on cpu"):
            ask()


def test_auto_takes_xformers_where_it_runs(monkeypatch):
    asked = []

    def problem(device, dtype):
        asked.append(dtype)
        return None if dtype == torch.float16 else "no kernel"

    monkeypatch.setattr(module, "xformers_problem", problem)
    assert backend_in_use("cuda", torch.float16) == "xformers"
    assert backend_in_use("cuda", torch.float32) == "sdpa"
    assert backend_in_use("cpu", torch.float16) == "sdpa"
    assert asked == [torch.float16, torch.float32]


def test_autocast_may_leave_dtypes_apart():
    q, k, v = tensors()
    want = attention(q, k, v)
    with torch.autocast("cpu", torch.bfloat16):
        got = attention(q, k.bfloat16(), v.bfloat16())
    torch.testing.assert_close(got.float(), want, atol=0.03, rtol=0.03)
    with pytest.raises(UsageError, match="use one floating dtype"):
        attention(q, k.bfloat16(), v.bfloat16())


def test_models_that_attend_say_on_what():
    assert provenance_of(stzoo.load("comtip-tiny"))["attention"] == "sdpa"
    with attention_backend("chunked"):
        assert provenance_of(stzoo.load("comtip-tiny"))["attention"] == "chunked"
    assert provenance_of(stzoo.model("s2s-st", {"variant": "cdcin"}))["attention"] == "sdpa"
    for name in ("s2s-st", "colour-texture", "knn"):
        assert "attention" not in provenance_of(stzoo.model(name))


@pytest.fixture(scope="module")
def section(tmp_path_factory):
    return write(synthetic_section(side_um=600, seed=1, name="a"), tmp_path_factory.mktemp("a") / "a.zarr")


@pytest.mark.parametrize("option", [["--attention", "chunked"], ["--attention=sdpa"]])
@pytest.mark.parametrize("first", [True, False])
def test_any_command_takes_the_option(section, tmp_path, ran, option, first):
    command = ["predict", str(section), "--model", "comtip-tiny", "--out", str(tmp_path / "p.h5ad")]
    assert run([*option, *command] if first else [*command, *option]) == 0
    name = option[-1].rpartition("=")[2]
    assert set(ran) == {name}
    assert anndata.read_h5ad(tmp_path / "p.h5ad").uns["stzoo"]["predicted"]["attention"] == name


@pytest.mark.parametrize(
    ("name", "message"), [("xformers", "CUDA only"), ("xformer", "did you mean 'xformers'?"), ("", "one of auto, sdpa")]
)
def test_a_command_refuses_what_does_not_run(section, tmp_path, capsys, name, message):
    code = run(
        ["--attention", name, "predict", str(section), "--model", "comtip-tiny", "--out", str(tmp_path / "p.h5ad")]
    )
    assert code == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_refused_option_needs_no_torch():
    code = "import sys\nfrom stzoo.cli.main import run\nassert run(['--attention', 'x', 'predict']) == 2\n"
    done = subprocess.run([sys.executable, "-c", code + "assert 'torch' not in sys.modules"], check=False)
    assert done.returncode == 0
    assert Path(module.__file__).is_file()
