"""The aligner ``ot`` on DLPFC: cortical layers lie upon the same layers, whichever way the section was turned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import stzoo
from scipy.spatial import cKDTree
from stzoo.core.geometry.transform import Transform

pytestmark = pytest.mark.real


@pytest.mark.parametrize(("angle", "flip"), [(131.0, True), (260.0, False)])
def test_layers_agree_at_any_turn(shared_data: Path, angle: float, flip: bool) -> None:
    pytest.importorskip("ot", reason="POT is not installed: pip install 'stzoo[ot]'")
    moving, fixed = (stzoo.read(shared_data / "dlpfc" / "h5ad" / f"{name}.h5ad") for name in ("151673", "151674"))
    adata = moving.adata.copy()
    adata.obsm["spatial_um"] = Transform.rigid(angle, (700, -300), flip=flip).apply(moving.um)
    found = stzoo.model("ot").align(replace(moving, adata=adata), fixed)
    nearest = cKDTree(fixed.um).query(found.apply(adata.obsm["spatial_um"]))[1]
    ours, theirs = moving.adata.obs["layer"], fixed.adata.obs["layer"].iloc[nearest]
    named = ours.notna().to_numpy() & theirs.notna().to_numpy()
    assert np.mean(ours.astype(str).to_numpy()[named] == theirs.astype(str).to_numpy()[named]) >= 0.85
