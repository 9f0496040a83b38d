"""Imputing into a store gives what imputing in memory gives, whoever computes it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import anndata
import imputed_run
import numpy as np
import pytest
import zarr
from imputed_run import GENES, SECTIONS, STACKS, Whole, drawn, stack
from stzoo.cli.main import run
from stzoo.core.data.section import Stack
from stzoo.core.errors import DataError, UsageError
from stzoo.core.imputer import Filled, FilledPart, merge_parts
from stzoo.core.io.read import read
from stzoo.core.io.volume import Volume
from stzoo.core.io.write import write
from stzoo.core.registry import model
from stzoo.core.workflows.impute import impute

SCRIPT = imputed_run.__file__


def same(a: anndata.AnnData, b: anndata.AnnData) -> None:
    assert list(a.obs_names) == list(b.obs_names)
    assert list(a.var_names) == list(b.var_names)
    assert set(a.layers) == set(b.layers) == {"imputed", "confidence"}
    assert a.uns["stzoo"] == b.uns["stzoo"]
    assert a.obs.equals(b.obs)
    assert set(a.obsm) == set(b.obsm)
    for key in a.obsm:
        np.testing.assert_array_equal(a.obsm[key], b.obsm[key])
    np.testing.assert_array_equal(*(x.toarray() if hasattr(x, "toarray") else x for x in (a.X, b.X)))
    for layer in a.layers:
        np.testing.assert_array_equal(a.layers[layer], b.layers[layer], err_msg=layer)


def launched(how: str, folder: Path, ranks: int) -> subprocess.CompletedProcess[str]:
    """Run the script with so many ranks, one of them without torchrun."""
    folder.mkdir(exist_ok=True)
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    return subprocess.run(
        [sys.executable, *command, SCRIPT, how, str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """What one process writes, and what two write."""
    folders = [tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("two")]
    for ranks, folder in enumerate(folders, 1):
        done = launched("whole", folder, ranks)
        assert done.returncode == 0, done.stderr
    return folders


@pytest.mark.parametrize("name", [*SECTIONS, "default"])
def test_two_ranks_write_what_one_writes(both: list[Path], name: str) -> None:
    one, two = (anndata.read_zarr(folder / f"{name}.zarr") for folder in both)
    same(one, two)
    assert np.isfinite(one.layers["imputed"]).all()
    texts = [(folder / f"{name}.txt").read_text() for folder in both]
    assert texts[0] == texts[1]
    assert "PCC mean" in texts[0]


@pytest.mark.parametrize("name", STACKS)
def test_two_ranks_write_the_stack_that_one_writes(both: list[Path], name: str) -> None:
    one, two = (Volume.read(folder / name) for folder in both)
    for a, b in zip(one.stack.sections, two.stack.sections, strict=True):
        same(a.adata, b.adata)
    for a, b in zip(one.stack.transforms, two.stack.transforms, strict=True):
        assert (a is None) is (b is None)
        if a is not None and b is not None:
            np.testing.assert_array_equal(a.apply(drawn().um), b.apply(drawn().um))


def test_nothing_hidden_is_left_beside_the_output(both: list[Path]) -> None:
    assert [path for folder in both for path in folder.glob(".*")] == []


def test_the_store_is_what_memory_holds(tmp_path: Path) -> None:
    for name in ("kriging", "s2s-st", "default"):
        imputer = Whole() if name == "default" else model(*SECTIONS[name])
        section = replace(drawn(), name=name)
        stored = impute(imputer, section, out=tmp_path / f"{name}.zarr", rule="grid:2", genes=GENES)
        whole = impute(imputer, section, rule="grid:2", genes=GENES)
        assert stored.lines() == whole.lines()
        whole.write(tmp_path / f"{name}.h5ad")
        same(anndata.read_zarr(tmp_path / f"{name}.zarr"), anndata.read_h5ad(tmp_path / f"{name}.h5ad"))
        again = read(tmp_path / f"{name}.zarr")
        slide = section.require_slide()
        np.testing.assert_array_equal(again.require_slide().read(5, 7, 90, 60), slide.read(5, 7, 90, 60))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"{name}.{suffix}" for name in ("kriging", "s2s-st", "default") for suffix in ("h5ad", "zarr")
    )


@pytest.mark.parametrize("name", [*SECTIONS, *STACKS])
def test_parts_hold_every_hidden_spot_and_gene_once(name: str) -> None:
    method, config = {**SECTIONS, **STACKS}[name]
    given = stack() if name in STACKS else Stack((stack().sections[0],))
    hidden = Stack(tuple(section.take_genes(GENES).hide(section.measured) for section in given.sections))
    values = [section.expression(target=1e4) for section in hidden.sections]
    times = [np.zeros(one.shape, dtype=int) for one in values]
    for part in model(method, config).fill_parts(hidden, values):
        times[part.section][part.spots, part.genes] += 1
        assert part.filled.values.dtype == part.filled.confidence.dtype == np.float32
    for section, counted in zip(hidden.sections, times, strict=True):
        assert (counted[~section.measured] == 1).all()


def test_a_lost_rank_leaves_no_output(tmp_path: Path) -> None:
    assert launched("lose", tmp_path, 2).returncode != 0
    assert [path for path in tmp_path.iterdir() if not path.name.startswith(".lost.zarr.")] == []


class Short(Whole):
    """Leaves a spot out, or says more than was asked."""

    fault = ""

    def fill_parts(self, stack, values, *args, **options):
        for part in super().fill_parts(stack, values, *args, **options):
            filled = part.filled
            if self.fault == "shape":
                yield replace(part, filled=Filled(filled.values[:, :1], filled.confidence))
            else:
                yield FilledPart(0, slice(0, -1), Filled(filled.values[:-1], filled.confidence[:-1]))


@pytest.mark.parametrize(("fault", "words"), [("shape", r"returned \(196, 1\)"), ("gap", "left 16 values")])
def test_parts_that_are_wrong_are_refused_and_nothing_is_written(fault: str, words: str, tmp_path: Path) -> None:
    section = drawn()
    section.adata.obs["measured"] = np.arange(len(section)) < 190  # the last ones are hidden
    imputer = Short()
    imputer.fault = fault
    with pytest.raises(DataError, match=words):
        impute(imputer, section, out=tmp_path / "s.zarr", genes=GENES)
    assert list(tmp_path.iterdir()) == []


def test_joined_parts_keep_what_was_measured() -> None:
    values = [np.array([[1.0, np.nan], [np.nan, 4.0]], dtype=np.float32)]
    part = FilledPart(
        0, np.array([0]), Filled(np.array([[7.0]], np.float32), np.array([[0.5]], np.float32)), slice(1, 2)
    )
    filled = merge_parts([part], values)[0]
    np.testing.assert_array_equal(filled.values, [[1.0, 7.0], [np.nan, 4.0]])
    np.testing.assert_array_equal(filled.confidence, [[1.0, 0.5], [0.0, 1.0]])


def test_several_ranks_need_a_place_to_meet() -> None:
    from stzoo.core.runtime.ranks import Ranks

    with pytest.raises(UsageError, match="a place to meet"):
        Whole().impute(drawn(), ranks=Ranks(0, 2))


def test_every_chunk_of_the_store_is_there(tmp_path: Path) -> None:
    impute(model("gene-mean"), drawn(), out=tmp_path / "s.zarr", rule="grid:2", genes=GENES)
    store = zarr.open_group(tmp_path / "s.zarr", mode="r")
    for name in ("X", "layers/imputed", "layers/confidence"):
        assert store[name].nchunks_initialized == store[name].nchunks


def test_the_command_writes_the_store_and_its_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(drawn(), tmp_path / "s.zarr")
    plot, trust, out = tmp_path / "p.png", tmp_path / "r.png", tmp_path / "f.zarr"
    pictures = ["--plot", str(plot), "--reliability", str(trust), "--show", "CD74"]
    common = ["impute", str(tmp_path / "s.zarr"), "--measured", "grid:2", "--genes", ",".join(GENES)]
    assert run([*common, "--out", str(out), *pictures]) == 0
    assert "against the" in capsys.readouterr().out
    assert plot.stat().st_size > 10_000
    assert trust.stat().st_size > 5_000
    assert run([*common, "--out", str(out)]) == 1
    assert "--overwrite" in capsys.readouterr().err
