"""``stzoo volume``: table, picture, page, planes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
from stack_layouts import sections
from stzoo.core.data.sampling_rules import measured_mask
from stzoo.core.data.section import Stack
from stzoo.core.io.volume import Volume
from stzoo.core.plotting.volume_page import MOST_GENES, page_data, write_page
from stzoo.core.registry import model
from stzoo.core.workflows.impute_stack import impute_stack

Run = Callable[..., Any]
GENES = ["ERBB2", "CD74"]


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rules = ("grid:2", "all", "grid:2+1,1")
    hidden = [s.hide(measured_mask(s, rule)) for s, rule in zip(sections(), rules, strict=True)]
    done = impute_stack(model("smooth"), Stack(tuple(hidden), (0.0, 20.0, 40.0)), sample="<b>t</b>")
    return done.write(tmp_path_factory.mktemp("volume") / "out")


def embedded(page: Path) -> Any:
    """Return the data of a page."""
    found = re.search(r"^const data = (\{.*\});$", page.read_text(encoding="utf-8"), re.M)
    assert found is not None
    return json.loads(found[1])


def test_everything_at_once(stzoo: Run, volume: Path, tmp_path: Path) -> None:
    plot, page, out = tmp_path / "s.png", tmp_path / "s.html", tmp_path / "dense.zarr"
    args = ["--genes", ",".join(GENES), "--between", 2, "--plot", plot, "--page", page, "--out", out]
    done = stzoo("volume", volume, *args)
    assert done.code == 0, done.err
    assert done.out.count("interpolated") == 4
    assert plot.stat().st_size > 20_000
    data = embedded(page)
    names = ["A", "A-B.1", "A-B.2", "B", "B-C.1", "B-C.2", "C"]
    assert [plane["name"] for plane in data["planes"]] == names
    assert [plane["interpolated"] for plane in data["planes"]] == [name not in "ABC" for name in names]
    back = Volume.read(out)
    assert back.names == names
    for plane, section in zip(data["planes"], back.stack.sections, strict=True):
        adata = anndata.read_zarr(out / "sections" / section.name)
        assert list(adata.var_names) == GENES
        np.testing.assert_allclose(np.array(plane["values"]).T, adata.layers["imputed"], atol=0.0051)
        np.testing.assert_allclose(np.array(plane["confidence"]).T, adata.layers["confidence"], atol=0.0051)
        assert plane["measured"] == adata.obs["measured"].astype(int).tolist()
        assert plane["barcodes"] == list(adata.obs_names)
    again = stzoo("volume", out, "--genes", "CD74", "--plot", tmp_path / "again.png")
    assert again.code == 0, again.err


def test_a_page_works_without_a_network_and_holds_no_markup_of_names(volume: Path, tmp_path: Path) -> None:
    found = Volume.read(volume).take_genes(GENES)
    for section in found.stack.sections:
        section.adata.var_names = ["</script><script>", "CD74"]
    text = write_page(found, ["</script><script>", "CD74"], tmp_path / "p.html").read_text(encoding="utf-8")
    page = re.sub(r"<script>/\*\*.*?</script>", "", text, flags=re.S)  # plotly itself
    assert len(page) < 200_000
    assert not re.search(r"(src|href)\s*=|https?://", page)
    assert page.count("</script>") == 1
    assert embedded(tmp_path / "p.html")["genes"] == ["</script><script>", "CD74"]
    for control in ("gene", "colour", "spots", "depth"):
        assert f'id="{control}"' in page
    assert len(text) > 1_000_000  # plotly is inside


def test_without_genes_the_most_variable_are_drawn(stzoo: Run, volume: Path, tmp_path: Path) -> None:
    assert stzoo("volume", volume).code == 0
    done = stzoo("volume", volume, "--page", tmp_path / "p.html")
    assert done.code == 0, done.err
    found = Volume.read(volume)
    assert embedded(tmp_path / "p.html")["genes"] == found.most_variable(4)
    assert page_data(found, GENES)["limits"][0][0] < page_data(found, GENES)["limits"][0][1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--genes", "NOPE", "--page", "p.html"], "no gene 'NOPE'"),
        (["--page", "p.txt"], "write to NAME.html"),
        (["--plot", "p.doc"], "no picture format"),
        (["--out", "p.h5ad"], "write to NAME.zarr"),
        (["--between", "-1", "--plot", "p.png"], "--between"),
    ],
)
def test_bad_use_leaves_nothing(
    stzoo: Run, volume: Path, tmp_path: Path, arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bad = stzoo("volume", volume, *arguments)
    assert bad.code in (1, 2)
    assert words in bad.err
    assert not list(tmp_path.iterdir())


def test_what_is_no_volume_and_too_many_genes(stzoo: Run, volume: Path, tmp_path: Path) -> None:
    assert "no volume" in stzoo("volume", tmp_path / "none").err
    assert "not a volume" in stzoo("volume", volume / "volume.zarr" / "sections" / "A").err
    found = Volume.read(volume)
    genes = ",".join(found.stack.sections[0].genes[: MOST_GENES + 1])
    bad = stzoo("volume", volume, "--genes", genes, "--page", tmp_path / "p.html")
    assert (bad.code, list(tmp_path.iterdir())) == (2, [])
    assert f"at most {MOST_GENES}" in bad.err


def test_pages_say_when_plotly_is_missing(stzoo: Run, volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'stzoo[page]'" in stzoo("volume", volume, "--page", "p.html").err
