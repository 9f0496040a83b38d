"""Every other shipped model under the same call: minutes of processor time together."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
from stzoo.core.conformance import conformance_tests
from stzoo.core.registry import model
from stzoo.plugins.vit.config import ViTEncoderConfig
from stzoo.plugins.vit.model import ViTEncoder
from stzoo.plugins.vit.tower import Tower

pytestmark = pytest.mark.costly

SMALL_S2S = {"start": "none", "refined": {"steps": 2, "batch": 4}}
SMALL_DAI = {
    "encoder": "none",
    "pseudo": {"components": 6},
    "network": {"width": 16, "depth": 2, "steps": 20, "batch": 32},
    "refine": {"steps": 10},
}
SMALL_VIT = {"image_px": 32, "patch_px": 16, "width": 24, "depth": 2, "heads": 2, "mpp": 2.0}


def small_vit() -> ViTEncoder:
    """A ViT of two blocks with weights that are always the same: what it embeds means nothing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = Tower(ViTEncoderConfig(**SMALL_VIT)).state_dict()
    made: ViTEncoder = model("vit", SMALL_VIT)
    weights = {f"tower.{key}": tensor for key, tensor in state.items()}
    made.restore(weights, {"checkpoint": {"source": "drawn", "sha256": {}}}, {})
    return made


test_gene_mean = conformance_tests("gene-mean")
test_nearest = conformance_tests("nearest")
test_bilinear = conformance_tests("bilinear")
test_bicubic = conformance_tests("bicubic")
test_transfer = conformance_tests("transfer")
test_smooth = conformance_tests("smooth")
test_kriging = conformance_tests("kriging")
test_s2s_st = conformance_tests("s2s-st", config=SMALL_S2S)
test_st_dai = conformance_tests("st-dai", config=SMALL_DAI)
test_colour_texture = conformance_tests("colour-texture", config={"tile_px": 64})
test_comtip = conformance_tests("comtip")
test_vit = conformance_tests("vit", make=small_vit)
test_rigid = conformance_tests("rigid")
test_affine_image = conformance_tests("affine-image")
if find_spec("ot"):
    test_ot = conformance_tests("ot")
if find_spec("efficientnet_lite_pytorch"):
    test_imagenet = conformance_tests("imagenet", config={"tile_px": 32})
