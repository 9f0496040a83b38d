"""stzoo data inspect and convert."""

from __future__ import annotations

import json

import anndata
import layouts
import numpy as np
from stzoo.core.io.read import read


def test_inspect_prints_a_table(stzoo, tmp_path):
    folder = layouts.her2st(tmp_path / "set")
    layouts.her2st(folder, "C6", image=False)
    outcome = stzoo("data", "inspect", folder)
    lines = outcome.out.splitlines()
    assert outcome.code == 0
    assert lines[0] == "format: legacy-st"
    assert lines[1].split() == ["section", "spots", "genes", "mpp", "(µm/px)", "image", "(px)", "counts", "missing"]
    assert lines[3].split() == ["C5", "24", "5", "2", "900", "x", "1000", "raw", "-"]
    assert lines[4].split() == ["C6", "24", "5", "2", "-", "raw", "slide", "image"]
    assert "note: C5: 1 of 25 spots" in outcome.out


def test_inspect_json(stzoo, tmp_path):
    found = stzoo("data", "inspect", f"{layouts.visium(tmp_path / 's')}::s", "--json").json()
    section = found["sections"][0]
    assert found["format"] == "spaceranger"
    assert section.pop("notes")
    assert section == {
        "name": "s",
        "spots": 32,
        "genes": 6,
        "mpp": round(read(tmp_path / "s").mpp, 4),
        "image": [1600, 1800],
        "counts": "raw",
        "missing": [],
    }


def test_inspect_says_which_section_is_broken_and_goes_on(stzoo, tmp_path):
    folder = layouts.her2st(tmp_path / "set")
    layouts.her2st(folder, "C6")
    (folder / "spots" / "C5_selection.tsv").unlink()
    outcome = stzoo("data", "inspect", folder)
    assert outcome.code == 1
    assert "C6" in outcome.out
    assert "C5 can not be read" in outcome.err
    outcome = stzoo("data", "inspect", folder, "--json")
    assert (outcome.code, "error" in outcome.json()["sections"][0]) == (1, True)


def test_convert_with_every_option(stzoo, tmp_path):
    folder = layouts.xenium(tmp_path / "run")
    layouts.picture(900, 700, tmp_path / "he.png")
    out = tmp_path / "new" / "run.zarr"
    outcome = stzoo(
        *("data", "convert", folder, out, "--mpp", "0.5", "--image", tmp_path / "he.png", "--bin-um", "100"),
    )
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith(f"wrote {out}: ")
    section = read(out)
    assert (section.name, section.pitch_um, section.mpp) == ("run", 100.0, 0.5)
    assert section.require_slide().width == 900
    assert stzoo("data", "convert", out, tmp_path / "run.h5ad").code == 0
    adata = anndata.read_h5ad(tmp_path / "run.h5ad")
    np.testing.assert_array_equal(adata.X.toarray(), section.counts())
    assert json.loads(json.dumps(stzoo("data", "inspect", out, "--json").json()))["format"] == "anndata-zarr"


def test_convert_overwrites_only_when_told(stzoo, tmp_path):
    folder, out = layouts.her2st(tmp_path / "set"), tmp_path / "a.h5ad"
    assert stzoo("data", "convert", folder, out).code == 0
    assert stzoo("data", "convert", folder, out).code == 1
    assert stzoo("data", "convert", folder, out, "--overwrite").code == 0
