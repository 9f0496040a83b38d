"""The aligner ``ot``: turns, mirrorings and cuts are found by expression alone; hidden spots are never read."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace

import numpy as np
import pytest
from anndata import AnnData
from scipy.ndimage import gaussian_filter
from stzoo.core.data.section import Section
from stzoo.core.errors import ConfigError, DataError, GeneError, PluginError
from stzoo.core.geometry.matches import Matches
from stzoo.core.geometry.transform import Transform
from stzoo.core.registry import model

PITCH, GENES = 100.0, 30
installed = pytest.mark.skipif(not importlib.util.find_spec("ot"), reason="POT is not installed: stzoo[ot]")


def tissue(seed: int, *, offset: tuple[float, float] = (0.0, 0.0), depth: float = 600) -> Section:
    """Measure the one round tissue on a lattice of its own phase, with noise of its own."""
    fields = np.random.default_rng(7).normal(size=(GENES, 64, 64))
    fields = np.stack([field / field.std() for field in (gaussian_filter(f, 5, mode="wrap") for f in fields)])
    x, y = np.meshgrid(np.arange(-14, 15) * PITCH + offset[0], np.arange(-11, 12) * PITCH + offset[1])
    inside = (x / 1400) ** 2 + (y / 1100) ** 2 < 1
    um = np.column_stack([x[inside], y[inside]])
    at = np.clip(np.rint(um / 50 + 32).astype(int), 0, 63)
    rate = np.exp(fields[:, at[:, 1], at[:, 0]].T)
    counts = np.random.default_rng(seed).poisson(rate / rate.sum(axis=1, keepdims=True) * depth)
    adata = AnnData(counts.astype(np.float32), obsm={"spatial_um": um})
    adata.var_names = [f"G{i}" for i in range(GENES)]
    return Section(adata, f"tissue {seed}")


def placed(section: Section, truth: Transform) -> Section:
    adata = section.adata.copy()
    adata.obsm["spatial_um"] = truth.apply(section.um)
    return replace(section, adata=adata)


def error_um(found: Transform, truth: Transform, um: np.ndarray) -> float:
    return float(np.linalg.norm(found.apply(um) - truth.apply(um), axis=1).mean())


def matches_of(found: Transform) -> Matches:
    assert found.matches is not None
    return found.matches


@installed
@pytest.mark.parametrize(("angle", "flip"), [(0, False), (97, True), (200, False), (318, True)])
def test_turns_mirrorings_and_shifts_are_found_and_spots_matched(angle: float, flip: bool) -> None:
    moving, truth = tissue(1), Transform.rigid(angle, (5000, -3000), flip=flip)
    fixed = placed(tissue(2, offset=(40, 30)), truth)
    found = model("ot").align(moving, fixed)
    assert error_um(found, truth, moving.um) < PITCH / 2
    matches = matches_of(found)
    assert matches.shape == (len(moving), len(fixed))
    assert 0.8 < matches.share <= 1
    assert (np.asarray(matches.plan.sum(axis=1)) <= 1.001 / len(moving)).all()
    carried = matches.transfer(fixed.um)
    matched = np.isfinite(carried).all(axis=1)
    assert np.median(np.linalg.norm(carried - truth.apply(moving.um), axis=1)[matched]) < 2 * PITCH


@installed
def test_a_section_of_which_two_fifths_are_missing_is_found() -> None:
    moving, truth = tissue(1), Transform.rigid(140, (300, 100), flip=True)
    whole = tissue(2, offset=(40, 30))
    found = model("ot").align(moving, placed(whole.take(whole.um[:, 0] > np.quantile(whole.um[:, 0], 0.4)), truth))
    assert error_um(found, truth, moving.um) < PITCH / 2
    assert matches_of(found).share < 0.75


@installed
def test_hidden_spots_are_not_read_and_a_quarter_is_enough() -> None:
    moving, truth = tissue(1), Transform.rigid(70, (900, 0))
    fixed = placed(tissue(2, offset=(40, 30)), truth)
    at = np.rint(moving.um / PITCH).astype(int)
    measured = (at % 2 == 0).all(axis=1)
    moving.adata.obs["measured"] = measured
    hidden = moving.hide(measured)
    assert np.isnan(hidden.counts()[~measured]).all()
    found = model("ot").align(hidden, fixed)
    assert error_um(found, truth, moving.um) < PITCH
    assert matches_of(found).plan[~measured].nnz == 0
    lies = moving.adata.copy()
    lies.X[~measured] = np.random.default_rng(0).poisson(50, (int((~measured).sum()), GENES))
    for other in (moving, replace(moving, adata=lies)):
        again = model("ot").align(other, fixed)
        assert np.array_equal(again.matrix, found.matrix)
        assert (matches_of(again).plan != matches_of(found).plan).nnz == 0


@installed
def test_memory_is_refused_before_it_is_taken() -> None:
    moving, fixed = tissue(1), tissue(2)
    with pytest.raises(DataError, match=r"a plan of 300 x 300 spots needs about [\d.]+ GiB, and memory_gib is 0.001"):
        model("ot", {"spots": 300, "memory_gib": 0.001}).align(moving, fixed)
    found = model("ot", {"spots": 60, "memory_gib": 0.001}).align(moving, fixed)  # thinned, it fits
    assert error_um(found, Transform.identity(), moving.um) < PITCH / 2
    assert matches_of(found).plan.sum(axis=1).nonzero()[0].size > 0.8 * len(moving)  # and is lifted to all spots


@installed
def test_the_estimate_of_memory_holds() -> None:
    """A plan in a process of its own takes no more than was estimated."""
    import subprocess

    code = """
import numpy as np
from stzoo.plugins.baselines.aligners._ot_plan import SpotGroups, estimate_bytes, import_solver, match_groups
import_solver()
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
rng = np.random.default_rng(0)
def some(n):
    return SpotGroups(rng.uniform(0, 1000, (n, 2)), rng.normal(size=(n, 6)), np.full(n, 1 / n), np.arange(n))
def run(n):
    match_groups(some(n), some(n), np.eye(2, 3), areas=(1.0, 1.0), share=0.9, alpha=0.5)
run(20)
before = peak()
run(500)
print((peak() - before) / estimate_bytes(500, 500))
"""
    if not sys.platform.startswith("linux"):
        pytest.skip("the peak is read from /proc")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0.3 < float(done.stdout) < 1.0


@installed
def test_too_little_to_compare_is_said() -> None:
    moving, fixed = tissue(1), tissue(2)
    other = fixed.adata.copy()
    other.var_names = [f"mouse-{i}" if i > 4 else f"G{i}" for i in range(GENES)]
    with pytest.raises(GeneError, match="share 5 genes"):
        model("ot").align(moving, replace(fixed, adata=other))
    with pytest.raises(DataError, match="12 measured spots with counts"):
        model("ot").align(moving.take(np.arange(12)), fixed)
    for wrong in ({"alpha": 1.5}, {"spots": 3}, {"step_deg": 0.0}, {"memory_gib": 0.0}, {"overlap": 0.0}):
        with pytest.raises(ConfigError, match="config of 'ot'"):
            model("ot", wrong)


@installed
def test_same_input_same_result_and_progress_is_told() -> None:
    moving, fixed = tissue(1), placed(tissue(2), Transform.rigid(33))
    seen: list[tuple[int, int]] = []
    first = model("ot").align(moving, fixed, progress=lambda *at: seen.append(at))
    again = model("ot").align(moving, fixed)
    assert np.array_equal(first.matrix, again.matrix)
    assert (matches_of(first).plan != matches_of(again).plan).nnz == 0
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    flipped = placed(tissue(2), Transform.rigid(33, flip=True))
    assert np.linalg.det(model("ot", {"flips": False}).align(moving, flipped).matrix[:, :2]) == pytest.approx(1)


def test_without_pot_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ot", None)
    with pytest.raises(PluginError, match=r"needs the package POT(.|\n)*pip install 'stzoo\[ot\]'"):
        model("ot").align(tissue(1), tissue(2))
