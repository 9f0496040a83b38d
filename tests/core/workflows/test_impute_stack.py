"""From a stack to a volume and back; nothing hidden reaches aligner or imputer; planes between sections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import anndata
import numpy as np
import pytest
import stzoo
from stack_layouts import sections
from stzoo.core.aligner import Aligner
from stzoo.core.arrays import Floats
from stzoo.core.data.sampling import measured_mask
from stzoo.core.data.section import Section, Stack
from stzoo.core.errors import DataError, GeneError, OutputError, UsageError
from stzoo.core.geometry.transform import Transform
from stzoo.core.imputer import Filled, Imputer
from stzoo.core.io.volume import COMMON, Volume, is_interpolated
from stzoo.core.workflows.densify import densify
from stzoo.core.workflows.impute_stack import ImputedStack, impute_stack

GENES = ["ERBB2", "CD74", "COL1A1", "ACTB"]
RULES = ("grid:2", "all", "random:0.5+1")


@dataclass
class Nothing:
    """No options."""


class Shift(Aligner):
    """Moves every section by its own first spot; remembers what it saw."""

    name, config_class = "shift", Nothing

    def align(self, moving: Section, fixed: Section, **_: object) -> Transform:
        for section in (moving, fixed):
            assert np.isnan(section.counts()[~section.measured]).all()
            assert "layer" not in section.adata.obs
        x, y = fixed.um[0] - moving.um[0]
        return Transform.rigid(0.0, (x, y))


class Zero(Imputer):
    """Fills with zeros; checks that hidden values are hidden."""

    name, config_class = "zero", Nothing

    def fill(self, stack: Stack, values: Sequence[Floats], **_: object) -> list[Filled]:
        for section, given in zip(stack.sections, values, strict=True):
            assert np.isnan(given[~section.measured]).all()
            assert np.isnan(section.adata.X[~section.measured]).all()
        return [Filled(np.nan_to_num(v), np.full_like(v, 0.5)) for v in values]


@pytest.fixture(scope="module")
def whole() -> list[Section]:
    return sections()


@pytest.fixture(scope="module")
def stack(whole: list[Section]) -> Stack:
    hidden = [s.hide(measured_mask(s, rule)) for s, rule in zip(whole, RULES, strict=True)]
    return Stack(tuple(hidden), (0.0, 20.0, 60.0))


@pytest.fixture(scope="module")
def done(stack: Stack, whole: list[Section]) -> ImputedStack:
    return impute_stack(Zero(), stack, sample="t", aligner=Shift(), genes=GENES, truth=whole)


def test_sections_lie_in_the_frame_of_the_central_one(done: ImputedStack) -> None:
    volume = done.volume
    assert (volume.names[volume.central], volume.stack.transforms[1]) == ("B", None)
    b = volume.stack.sections[1].um
    for section in volume.stack.sections:
        np.testing.assert_allclose(section.adata.obsm[COMMON], b)
    assert volume.stack.sections[0].adata.uns["stzoo"]["stack"]["aligner"] == "shift"


def test_values_are_log1p_of_counts_per_10000_of_all_genes(done: ImputedStack, whole: list[Section]) -> None:
    for section, source in zip(done.volume.stack.sections, whole, strict=True):
        seen = section.measured
        counts = source.counts(GENES)[seen]
        expected = np.log1p(counts / source.depth[seen, None] * 1e4)
        np.testing.assert_allclose(section.adata.layers["imputed"][seen], expected, rtol=1e-5)
        assert np.array_equal(np.asarray(section.adata.X)[seen], counts)


def test_hidden_spots_are_scored_beside_the_gene_mean(done: ImputedStack) -> None:
    a, b, c = done.scores()
    assert "mse" not in b
    assert (a["known"], c["known"]) == (a["filled"], c["filled"])
    truth, section = done.truth[0], done.volume.stack.sections[0]
    assert a["mse"] == pytest.approx(np.mean(truth[~section.measured] ** 2), rel=1e-5)
    mean = truth[section.measured].mean(axis=0)
    assert a["gene_mean_mse"] == pytest.approx(np.mean((truth[~section.measured] - mean) ** 2), rel=1e-5)
    assert "gene mean: PCC 0" in done.lines()[0]
    assert "against" not in done.lines()[1]


def test_without_truth_nothing_is_scored(stack: Stack) -> None:
    found = impute_stack(Zero(), stack, genes=GENES)
    assert not any("mse" in score for score in found.scores())
    np.testing.assert_array_equal(found.volume.stack.sections[2].adata.obsm[COMMON], stack.sections[2].um)


def test_kriging_beats_the_gene_mean(stack: Stack, whole: list[Section]) -> None:
    found = impute_stack(stzoo.model("kriging"), stack, aligner=Shift(), genes=GENES, truth=whole)
    for score in found.scores():
        assert score.get("mse", 0) <= score.get("gene_mean_mse", 0)


def test_a_volume_comes_back(done: ImputedStack, tmp_path: Path) -> None:
    path = done.write(tmp_path / "out", export_sections=True)
    assert sorted(p.name for p in path.iterdir()) == ["A.h5ad", "B.h5ad", "C.h5ad", "volume.zarr"]
    back = Volume.read(path)
    assert (back.sample, back.names, back.central) == ("t", ["A", "B", "C"], 1)
    assert back.stack.z_um == (0.0, 20.0, 60.0)
    for i, section in enumerate(done.volume.stack.sections):
        files = [path / f"{section.name}.h5ad", path / "volume.zarr" / "sections" / section.name]
        raw = [anndata.read_h5ad(files[0]), anndata.read_zarr(files[1])]
        for adata in (*raw, *(stzoo.read(file).adata for file in files), back.stack.sections[i].adata):
            for key in ("imputed", "confidence"):
                assert np.array_equal(adata.layers[key], section.adata.layers[key])
            assert np.array_equal(adata.obsm[COMMON], section.adata.obsm[COMMON])
            assert {"measured", "array_row", "array_col"} <= set(adata.obs)
            assert adata.uns["stzoo"]["imputed"]["model"] == "zero"
        for adata in raw:
            assert np.array_equal(np.asarray(adata.X), section.adata.X, equal_nan=True)
            assert "spatial" in adata.obsm
        np.testing.assert_allclose(back.stack.um(i), done.volume.stack.um(i))
    with pytest.raises(OutputError, match="exists already"):
        done.write(tmp_path / "out")


def test_a_write_that_fails_leaves_nothing(done: ImputedStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("stzoo.core.workflows.impute_stack.write", fail)
    with pytest.raises(KeyboardInterrupt):
        done.write(tmp_path / "out", export_sections=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("part", ["sections/B", "sections/B/layers/imputed", "zarr.json"])
def test_a_damaged_volume_is_refused(done: ImputedStack, tmp_path: Path, part: str) -> None:
    import shutil

    path = done.volume.write(tmp_path / "v.zarr") / part
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(DataError, match=r"volume|damaged"):
        Volume.read(tmp_path / "v.zarr")


def test_bad_stacks(stack: Stack) -> None:
    with pytest.raises(GeneError, match="ERBB3"):
        impute_stack(Zero(), stack, genes=["ERBB3"])
    twice = replace(stack, sections=(stack.sections[0], stack.sections[1], replace(stack.sections[2], name="A")))
    with pytest.raises(DataError, match="one name"):
        impute_stack(Zero(), twice, genes=GENES)


def test_planes_between_are_linear_and_less_sure(done: ImputedStack, tmp_path: Path) -> None:
    dense = densify(done.volume, 1)
    assert dense.names == ["A", "A-B.1", "B", "B-C.1", "C"]
    assert dense.stack.z_um == (0.0, 10.0, 20.0, 40.0, 60.0)
    a, between, b, below, c = (section.adata for section in dense.stack.sections)
    np.testing.assert_allclose(between.layers["imputed"], (a.layers["imputed"] + b.layers["imputed"]) / 2, atol=1e-5)
    mean = (a.layers["confidence"] + b.layers["confidence"]) / 2
    np.testing.assert_allclose(between.layers["confidence"], mean * 0.5**0.5, rtol=1e-5)
    mean = (b.layers["confidence"] + c.layers["confidence"]) / 2
    np.testing.assert_allclose(below.layers["confidence"], mean * 0.5, rtol=1e-5)  # the gap is twice the spacing
    assert [is_interpolated(section) for section in dense.stack.sections] == [False, True, False, True, False]
    assert np.isnan(between.X).all()
    assert not between.obs["measured"].any()
    back = Volume.read(dense.write(tmp_path / "dense.zarr"))
    assert is_interpolated(back.stack.sections[1])
    assert densify(back, 2).names == ["A", "A-B.1", "A-B.2", "B", "B-C.1", "B-C.2", "C"]
    with pytest.raises(UsageError):
        densify(back, 0)


def test_planes_are_only_where_both_neighbours_have_tissue(done: ImputedStack) -> None:
    volume = done.volume
    left = volume.stack.sections[0].take(volume.stack.sections[0].adata.obsm[COMMON][:, 0] < 800)
    torn = replace(volume, stack=replace(volume.stack, sections=(left, *volume.stack.sections[1:])))
    plane = densify(torn, 1).stack.sections[1]
    assert 0 < plane.n_spots < volume.stack.sections[1].n_spots
    assert plane.um[:, 0].max() <= left.adata.obsm[COMMON][:, 0].max() + 200
    far = left.adata.copy()
    far.obsm[COMMON] = far.obsm[COMMON] + 1e5
    apart = replace(volume.stack, sections=(replace(left, adata=far), *volume.stack.sections[1:]))
    with pytest.raises(DataError, match="no place in common"):
        densify(replace(volume, stack=apart), 1)
