"""Transfer: what other sections measured, in the common frame, and nothing where they do not reach."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from stzoo.core.data.section import Section, Stack
from stzoo.core.errors import ConfigError, DataError
from stzoo.core.geometry.transform import Transform
from stzoo.core.registry import model

PITCH = 200.0
TURN = Transform.rigid(30.0, (400.0, -100.0), flip=True)


def lattice(rows: int = 8, cols: int = 9, *, name: str = "a", seed: int = 0, flat: bool = False) -> Section:
    """Counts that follow position (or do not), the same in every section, and a depth that is the same everywhere."""
    row, col = (axis.ravel() for axis in np.mgrid[:rows, :cols])
    share = np.stack([row, col, row * col, np.full(len(row), 40), 60 + 0 * row], axis=1).astype(np.float32)
    if flat:
        share = np.random.default_rng(seed).permuted(share, axis=0)
    counts = np.column_stack([share, 1000 - share.sum(axis=1)])
    obs = pd.DataFrame({"array_row": row, "array_col": col}, index=[f"s{i}" for i in range(len(row))])
    adata = anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=list("uvwxyz")))
    adata.obsm["spatial_um"] = np.stack([col, row], axis=1) * PITCH
    return Section(adata, name)


def moved(section: Section, transform: Transform) -> Section:
    adata = section.adata.copy()
    adata.obsm["spatial_um"] = transform.inverse().apply(section.um)
    return replace(section, adata=adata)


def quarter(section: Section) -> np.ndarray[Any, Any]:
    obs = section.adata.obs
    return ((obs["array_row"] % 2 == 0) & (obs["array_col"] % 2 == 0)).to_numpy()


def fill(sections: list[Section], transforms: tuple[Transform | None, ...] = (), **options: Any) -> list[Section]:
    return list(model("transfer", options).impute(Stack(tuple(sections), transforms=transforms)).sections)


def layer(section: Section, name: str = "imputed") -> np.ndarray[Any, Any]:
    return np.asarray(section.adata.layers[name])


def test_a_spot_gets_the_gaussian_mean_of_its_four_nearest_in_the_common_frame() -> None:
    full, other = lattice(name="full"), moved(lattice(name="other"), Transform.rigid(0, (50.0, 30.0)).then(TURN))
    done = fill([full, other.hide(quarter(other))], (None, TURN))[1]
    at, truth, y = TURN.apply(other.um), other.expression(target=1e4), full.expression(target=1e4)
    wanted = np.empty_like(truth)
    for i, place in enumerate(at):
        distance = np.linalg.norm(full.um - place, axis=1)
        near = np.argsort(distance)[:4]
        weight = np.exp(-(distance[near] ** 2) / (2 * (PITCH / 2) ** 2))
        wanted[i] = weight @ y[near] / weight.sum()
    hidden = ~quarter(other)
    np.testing.assert_allclose(layer(done)[hidden], wanted[hidden], atol=1e-4)
    np.testing.assert_array_equal(layer(done)[~hidden], truth[~hidden])


def test_hidden_counts_of_any_section_are_not_carried() -> None:
    full, other = lattice(name="full"), lattice(name="other")
    before = fill([full, other.hide(quarter(other))])[1]
    poisoned = lattice(name="other")
    poisoned.adata.X[~quarter(other)] = 1e6
    np.testing.assert_array_equal(layer(fill([full, poisoned.hide(quarter(other))])[1]), layer(before))


def test_where_no_other_section_reaches_the_own_mean_with_confidence_0() -> None:
    full, other = lattice(name="full"), lattice(12, 9, name="other")
    done = fill([full, other.hide(quarter(other))])[1]
    far = ~quarter(other) & (other.um[:, 1] > full.um[:, 1].max() + 1.5 * PITCH)
    assert far.sum() > 10
    own = other.expression(target=1e4)[quarter(other)].mean(axis=0)
    np.testing.assert_allclose(layer(done)[far], np.broadcast_to(own, (far.sum(), 6)), rtol=1e-5)
    assert (layer(done, "confidence")[far] == 0).all()
    near = ~quarter(other) & ~far
    assert (layer(done, "confidence")[near][:, 0] > 0.4).all()


def test_confidence_tells_sections_that_agree_from_those_that_do_not() -> None:
    other = lattice(name="other")
    agree = fill([lattice(name="full"), other.hide(quarter(other))])[1]
    strange = fill([lattice(name="full", flat=True), other.hide(quarter(other))])[1]
    hidden = ~quarter(other)
    sure = [float(layer(done, "confidence")[hidden][:, :3].mean()) for done in (agree, strange)]
    assert sure[0] > 0.9
    assert sure[1] < 0.3


def test_an_offset_is_shrunk_by_the_number_of_measured_spots() -> None:
    full, other = lattice(name="full"), lattice(name="other")
    other.adata.X[:, 3] *= 3
    given = other.hide(quarter(other))
    plain, shifted = fill([full, given])[1], fill([full, given], offset=True)[1]
    n = int(quarter(other).sum())
    gap = (given.expression(target=1e4) - full.expression(target=1e4))[quarter(other)].mean(axis=0)
    hidden = ~quarter(other)
    added = (layer(shifted) - layer(plain))[hidden]
    np.testing.assert_allclose(added[:, 3], n / (n + 20) * gap[3], rtol=1e-4)


def test_own_is_the_mean_with_the_sections_own_interpolation() -> None:
    full, other = lattice(name="full", flat=True), lattice(name="other")
    given = other.hide(quarter(other))
    carried, own = fill([full, given])[1], model("knn").impute(given, target=1e4)
    half = fill([full, given], own=0.5)[1]
    for name in ("imputed", "confidence"):
        np.testing.assert_allclose(layer(half, name), (layer(carried, name) + layer(own, name)) / 2, atol=1e-5)


def test_the_order_of_sections_changes_nothing() -> None:
    full, other = lattice(name="full"), lattice(name="other")
    a = fill([full, other.hide(quarter(other))])[1]
    b = fill([other.hide(quarter(other)), full])[0]
    np.testing.assert_array_equal(layer(a), layer(b))


def test_a_section_alone_and_impossible_options_are_refused() -> None:
    section = lattice()
    with pytest.raises(DataError, match="section 'a' is alone"):
        model("transfer").impute(section.hide(quarter(section)))
    with pytest.raises(DataError, match="section 'a' is alone"):
        model("transfer", {"own": 0.5}).impute(section.hide(quarter(section)))
    with pytest.raises(ConfigError, match="neighbours is 0"):
        model("transfer", {"neighbours": 0})
    with pytest.raises(ConfigError, match=r"own is 1\.5"):
        model("transfer", {"own": 1.5})
