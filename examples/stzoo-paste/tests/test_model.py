"""What 'paste' promises beyond the contract."""

from dataclasses import replace

import numpy as np
import stzoo
from stzoo import Transform, synthetic_section


def test_a_turned_section_comes_back():
    fixed = synthetic_section(side_um=2000)
    motion = Transform.rigid(40.0, (300.0, -200.0))
    adata = fixed.adata.copy()
    adata.obsm["spatial_um"] = motion.apply(fixed.um)
    found = stzoo.model("paste").align(replace(fixed, adata=adata), fixed)
    error = np.linalg.norm(found.apply(motion.apply(fixed.um)) - fixed.um, axis=1)
    assert np.median(error) < 0.5 * fixed.pitch_um
