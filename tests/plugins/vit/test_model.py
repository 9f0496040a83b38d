"""Published image encoders: what transformers computes, from every layout, and nothing without weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stzoo
import torch
from checkpoint_layouts import as_open_clip, as_timm, shaken
from safetensors.torch import load_file, save_file
from stzoo.core.arrays import Floats
from stzoo.core.data.section import Section
from stzoo.core.errors import ConfigError, UsageError, WeightsError
from stzoo.core.io.synthetic import synthetic_section
from stzoo.core.registry import model as model_of
from stzoo.plugins.vit.model import Pool, ViTEncoder

transformers = pytest.importorskip("transformers", minversion="5")

SHAPE = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 160}
IMAGE = {"image_size": 32, "patch_size": 8}
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
OWN = {"mean": [0.7, 0.5, 0.6], "std": [0.2, 0.3, 0.25]}


@pytest.fixture(scope="module")
def section() -> Section:
    return synthetic_section(side_um=800, seed=1)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    text = {**SHAPE, "hidden_size": 64, "num_attention_heads": 1, "vocab_size": 90, "eos_token_id": 89}
    config = transformers.CLIPConfig(vision_config={**SHAPE, **IMAGE}, text_config=text, projection_dim=48)
    model = shaken(transformers.CLIPModel(config))
    model.save_pretrained(folder)
    return model, folder


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("dino")
    torch.manual_seed(0)
    model = shaken(transformers.ViTModel(transformers.ViTConfig(**SHAPE, **IMAGE, layer_norm_eps=1e-6)))
    model.save_pretrained(folder)
    return model, folder


def encoder(folder: Path) -> ViTEncoder:
    return ViTEncoder.from_checkpoint(folder, source="hf://someone/encoder@0")


def theirs(section: Section, embed: Callable[[torch.Tensor], Any], mean: Any, std: Any) -> Floats:
    """What a model of transformers makes of the tiles, normalised in NumPy."""
    tiles = section.require_slide().tiles(section.pixels, size_px=32, mpp=0.5)
    pixels = ((tiles / 255 - np.array(mean)) / np.array(std)).transpose(0, 3, 1, 2)
    with torch.no_grad():
        return embed(torch.from_numpy(pixels.astype(np.float32))).numpy()


def close(got: Floats, want: Floats) -> None:
    np.testing.assert_allclose(got, want, atol=1e-5, rtol=0)


def test_clip_gives_the_image_embeds_of_transformers(clip: tuple[Any, Path], section: Section) -> None:
    model = encoder(clip[1])
    found = model.embed(section)
    assert (found.dtype, found.shape) == (np.float32, (section.n_spots, 48))
    assert model.embedding_dim == 48
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    want = theirs(section, lambda pixels: clip[0].get_image_features(pixels).pooler_output, mean, std)
    close(found, want)
    assert want.std(axis=0).max() > 0.01  # the tiles differ, and so do their embeddings


def test_a_vit_gives_the_class_token_of_transformers(vit: tuple[Any, Path], section: Section) -> None:
    found = encoder(vit[1]).embed(section)
    assert found.shape == (section.n_spots, 128)
    close(found, theirs(section, lambda pixels: vit[0](pixels).last_hidden_state[:, 0], **IMAGENET))


def test_the_layouts_of_open_clip_and_timm_give_the_same(
    clip: tuple[Any, Path], vit: tuple[Any, Path], section: Section, tmp_path: Path
) -> None:
    for name in ("open_clip", "timm"):
        (tmp_path / name).mkdir()
    save_file(
        as_open_clip(load_file(clip[1] / "model.safetensors")), tmp_path / "open_clip/open_clip_model.safetensors"
    )
    config = {"vision_cfg": {"width": 128, "head_width": 64}, "text_cfg": {"heads": 1}, "quick_gelu": True}
    (tmp_path / "open_clip/open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    close(encoder(tmp_path / "open_clip").embed(section), encoder(clip[1]).embed(section))
    save_file(as_timm(load_file(vit[1] / "model.safetensors")), tmp_path / "timm/model.safetensors")
    close(encoder(tmp_path / "timm/model.safetensors").embed(section), encoder(vit[1]).embed(section))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("preprocessor_config.json", {"image_mean": OWN["mean"], "image_std": OWN["std"]}),
        ("config.json", {"architecture": "vit", "global_pool": "avg", "pretrained_cfg": OWN}),
        ("open_clip_config.json", {"model_cfg": {"vision_cfg": {}, "text_cfg": {}}, "preprocess_cfg": OWN}),
    ],
)
def test_normalisation_and_pooling_are_what_the_configs_beside_it_say(
    vit: tuple[Any, Path], section: Section, tmp_path: Path, name: str, content: dict[str, Any]
) -> None:
    save_file(as_timm(load_file(vit[1] / "model.safetensors")), tmp_path / "model.safetensors")
    (tmp_path / name).write_text(json.dumps(content))
    model = encoder(tmp_path)
    averaged = "global_pool" in content
    assert model.config.pool is (Pool.mean_patches if averaged else Pool.class_token)

    def embed(pixels: torch.Tensor) -> torch.Tensor:
        tokens = vit[0](pixels).last_hidden_state
        return tokens[:, 1:].mean(1) if averaged else tokens[:, 0]

    close(model.embed(section), theirs(section, embed, **OWN))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ({"pretrained_cfg": {"mean": [0.5], "std": [0.5]}}, "expected three numbers"),
        ({"global_pool": "map"}, "pooling 'map' is not known"),
    ],
)
def test_configs_that_can_not_be_followed_are_refused(
    vit: tuple[Any, Path], tmp_path: Path, content: dict[str, Any], what: str
) -> None:
    save_file(as_timm(load_file(vit[1] / "model.safetensors")), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(WeightsError, match=what):
        encoder(tmp_path)


@pytest.mark.parametrize("kind", ["clip", "vit"])
def test_what_was_saved_embeds_and_predicts_the_same_bits(
    kind: str, request: pytest.FixtureRequest, section: Section, tmp_path: Path
) -> None:
    folder: Path = request.getfixturevalue(kind)[1]
    model = encoder(folder).fit([section], ["KRT8", "COL1A1"])
    again = stzoo.load(str(model.save(tmp_path / "weights")))
    assert isinstance(again, ViTEncoder)
    assert np.array_equal(again.embed(section), model.embed(section))
    assert np.array_equal(again.predict(section).values, model.predict(section).values)
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    expected = {"source": "hf://someone/encoder@0", "sha256": {"model.safetensors": digest}}
    assert again.description()["checkpoint"] == expected


def test_the_batch_bounds_memory_and_does_not_change_the_result(clip: tuple[Any, Path], section: Section) -> None:
    model, done = encoder(clip[1]), []
    close(model.embed(section, batch_size=2, progress=lambda *step: done.append(step)), model.embed(section))
    assert done[-1] == (section.n_spots, section.n_spots)


def test_int8_embeds_nearly_the_same_and_is_not_saved(clip: tuple[Any, Path], section: Section, tmp_path: Path) -> None:
    full, small = encoder(clip[1]).embed(section), encoder(clip[1]).quantise()
    other = small.embed(section)
    cosine = (full * other).sum(1) / np.linalg.norm(full, axis=1) / np.linalg.norm(other, axis=1)
    assert cosine.min() > 0.98
    assert not np.array_equal(full, other)
    with pytest.raises(UsageError, match="int8"):
        small.save(tmp_path / "int8")


def test_without_weights_nothing_is_embedded_or_saved(section: Section, tmp_path: Path) -> None:
    model = model_of("vit", {"depth": 1})
    for call in (lambda: model.embed(section), lambda: model.save(tmp_path / "weights"), model.quantise):
        with pytest.raises(WeightsError, match="no weights"):
            call()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda s: s.pop("tower.vit.layernorm.weight"), "1 tensors are missing, e.g. 'vit.layernorm.weight'"),
        (lambda s: s.update({"tower.vit.adapter": torch.ones(2)}), "not known to the model, e.g. 'vit.adapter'"),
        (lambda s: s.update({"stray": torch.ones(2)}), "'stray' is not known"),
        (lambda s: s.update({"tower.projection.weight": torch.ones(3, 128)}), r"\(3, 128\), expected .* \(48, 128\)"),
        (lambda s: s.update({"tower.projection.weight": torch.ones(48, 128, dtype=torch.int64)}), "int64"),
    ],
)
def test_saved_weights_that_are_not_whole_are_refused(clip: tuple[Any, Path], change: Any, what: str) -> None:
    saved = encoder(clip[1])
    state = saved.state()
    change(state)
    fresh = ViTEncoder(saved.config)
    with pytest.raises(WeightsError, match=what):
        fresh.restore(state, saved.description(), {})
    with pytest.raises(WeightsError, match="of which checkpoint"):
        fresh.restore(saved.state(), {}, {})


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda s: s.pop("vision_model.post_layernorm.bias"), "nothing for 'layernorm.bias'"),
        (lambda s: s.update({"visual_projection.weight": torch.ones(48, 3)}), r"is \(48, 3\), expected"),
        (lambda s: s.pop("vision_model.embeddings.class_embedding"), "layout that is known"),
    ],
)
def test_checkpoints_that_are_not_whole_are_refused(
    clip: tuple[Any, Path], tmp_path: Path, change: Any, what: str
) -> None:
    state = load_file(clip[1] / "model.safetensors")
    change(state)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=what):
        encoder(tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"mpp": 0.0},
        {"depth": 0},
        {"patch_px": 0},
        {"image_px": 225},
        {"heads": 7},
        {"projection": -1},
        {"eps": float("nan")},
        {"mean": [0.5, 0.5]},
        {"std": [0.5, 0.0, 0.5]},
    ],
)
def test_numbers_without_a_meaning_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{min(wrong)} is (.|\n)*config of 'vit'"):
        model_of("vit", wrong)
    with pytest.raises(ConfigError, match="pool"):
        model_of("vit", {"pool": "max"})
