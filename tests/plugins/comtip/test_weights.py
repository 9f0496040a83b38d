"""CoMTIP at the paper's configuration, started from checkpoints that transformers wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stzoo.core.data.section import Section
from stzoo.core.errors import ConfigError, UsageError, WeightsError
from stzoo.core.io.synthetic import synthetic_section
from stzoo.plugins.comtip.model import CoMTIP

transformers = pytest.importorskip("transformers")

PAPER: dict[str, Any] = {
    "embedding_dim": 24,
    "statistics": False,
    "context_um": [],
    "vision": {
        "tile_px": 64,
        "patch_px": 32,
        "width": 64,
        "depth": 2,
        "heads": 1,
        "stem": "linear",
        "clip": True,
        "skip": False,
        "poses": False,
    },
    "text": {
        "kind": "sentences",
        "width": 64,
        "depth": 2,
        "heads": 1,
        "values": "affine",
        "pool": "mean",
        "clip": True,
    },
    "objective": {"soft_targets": 0.0, "ranking": 0.0, "paat": "paper"},
    "train": {"steps": 3, "batch": 6, "genes": 6, "views": 1, "warmup": 1, "learning_rate": 1e-3, "tower_rate": 0.0},
}


@pytest.fixture(scope="module")
def section() -> Section:
    return synthetic_section(side_um=800, seed=1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CLIP with a tokenizer of its shape, as transformers saves them."""
    from tokenizers import Tokenizer
    from tokenizers.models import BPE

    folder = tmp_path_factory.mktemp("clip")
    letters = [chr(c) for c in range(33, 127)]
    words = [*letters, *(letter + "</w>" for letter in letters)]
    template = ["the", "expression", "value", "of", "is"]
    merges: list[tuple[str, str]] = []
    for word in template:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            merges.append((parts[0], parts[1]))
            parts = [parts[0] + parts[1], *parts[2:]]
            words.append(parts[0])
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(words))}
    for special in ("<|startoftext|>", "<|endoftext|>"):
        vocabulary[special] = len(vocabulary)
    model = BPE(vocabulary, list(dict.fromkeys(merges)), unk_token="<|endoftext|>", end_of_word_suffix="</w>")
    tokenizer = Tokenizer(model)
    from tokenizers.normalizers import Lowercase
    from tokenizers.pre_tokenizers import Whitespace

    tokenizer.normalizer, tokenizer.pre_tokenizer = Lowercase(), Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 1}
    config = transformers.CLIPConfig(
        text_config={**shape, "vocab_size": len(vocabulary), "eos_token_id": vocabulary["<|endoftext|>"]},
        vision_config={**shape, "image_size": 64, "patch_size": 32},
        projection_dim=24,
    )
    transformers.CLIPModel(config).save_pretrained(folder)
    return folder


def test_training_from_a_clip_checkpoint_starts_with_its_very_towers(
    checkpoint: Path, section: Section, tmp_path: Path
) -> None:
    model = CoMTIP(PAPER).start_from(checkpoint, source="hf://someone/clip@0")
    losses = model.train([section], out=tmp_path / "run", progress=False)
    assert {"contrast", "mfm", "pair"} <= set(losses)
    state = model.state()
    theirs = transformers.CLIPModel.from_pretrained(checkpoint).state_dict()
    # a tower rate of 0 leaves what came from the checkpoint as it was, to half precision
    ours = state["network.image.vit.blocks.1.mlp.fc1.weight"].float()
    torch.testing.assert_close(ours, theirs["vision_model.encoder.layers.1.mlp.fc1.weight"], atol=1e-3, rtol=1e-3)
    projection = state["network.text.projection.weight"].float()
    torch.testing.assert_close(projection, theirs["text_projection.weight"], atol=1e-3, rtol=1e-3)
    assert float(state["network.text.genes.weight"].abs().max()) > 0  # what is new has learned
    again = CoMTIP.load(model.save(tmp_path / "weights"))
    assert again.description()["started_from"]["source"] == "hf://someone/clip@0"
    genes = model.genes("zero-shot")[:3]
    expected = model.predict(section, genes, head="zero-shot").values
    assert np.array_equal(again.predict(section, genes, head="zero-shot").values, expected)


def test_a_checkpoint_of_another_shape_is_refused(checkpoint: Path) -> None:
    wider = {**PAPER, "vision": {**PAPER["vision"], "width": 128, "heads": 2}}
    with pytest.raises(ConfigError, match="width 64"):
        CoMTIP(wider).start_from(checkpoint)
    with pytest.raises(ConfigError, match="pixels"):
        CoMTIP().start_from(checkpoint)


def test_a_space_of_another_width_is_refused(checkpoint: Path, section: Section, tmp_path: Path) -> None:
    model = CoMTIP({**PAPER, "embedding_dim": 16}).start_from(checkpoint)
    with pytest.raises(WeightsError, match="projection"):
        model.train([section], out=tmp_path, progress=False)


def test_models_without_starting_weights_say_so(tmp_path: Path) -> None:
    from stzoo.core.registry import model

    with pytest.raises(UsageError, match="no starting weights"):
        model("knn").start_from(tmp_path)


def test_the_base_recipe_has_the_shape_of_clip() -> None:
    from stzoo.core import config as configs
    from stzoo.core.nn.vit import ViTConfig
    from stzoo.core.training.recipes import load_recipe
    from stzoo.plugins.comtip.config import CoMTIPConfig
    from stzoo.plugins.comtip.image_tower import make_vit_config

    config = configs.build(CoMTIPConfig, load_recipe("comtip", "comtip-base").config, where="comtip-base")
    clip = ViTConfig(224, 32, 768, 12, 12, pre_layernorm=True, quick_gelu=True, patch_bias=False, eps=1e-5)
    assert make_vit_config(config.vision) == clip
    assert (config.text.width, config.text.depth, config.text.heads, config.embedding_dim) == (512, 12, 8, 512)
