"""Checkpoints that transformers wrote give the features that transformers gives; what is not whole is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from checkpoint_layouts import as_open_clip, as_timm, shaken
from safetensors.torch import load_file, save_file
from stzoo.core.errors import ConfigError, WeightsError
from stzoo.core.nn.clip_text import ClipText
from stzoo.core.nn.pretrained import Hints, TowerHints, clip_towers, read_checkpoint, read_hints, vit_tower
from stzoo.core.nn.vit import ViT
from stzoo.core.weights.repository import restore_module

transformers = pytest.importorskip("transformers", minversion="5")

VISION = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 160}
TEXT = {**VISION, "hidden_size": 64, "num_attention_heads": 1, "vocab_size": 90, "bos_token_id": 88, "eos_token_id": 89}
SMALL = {"image_size": 32, "patch_size": 8}


def write_clip(folder, **options):
    torch.manual_seed(0)
    vision, text = {**VISION, **SMALL, **options}, {**TEXT, **options}
    model = shaken(
        transformers.CLIPModel(transformers.CLIPConfig(vision_config=vision, text_config=text, projection_dim=48))
    )
    model.save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    return write_clip(folder), folder


def vit_of(config, state):
    model = ViT(config).eval()
    restore_module(model, state)
    return model


def text_of(parts):
    model = ClipText(parts.text_config).eval()
    restore_module(model, parts.text)
    return model


def image_features(parts, images):
    return vit_of(parts.vision_config, parts.vision)(images)[:, 0] @ parts.visual_projection.T


def text_features(parts, ids):
    model = text_of(parts)
    features = model(model.token_embedding(ids))[torch.arange(len(ids)), ids.argmax(1)]  # the end token is the last
    return features @ parts.text_projection.T


def images(side=32, b=3):
    return torch.randn(b, 3, side, side, generator=torch.Generator().manual_seed(1))


def texts():
    ids = torch.randint(2, 80, (3, 11), generator=torch.Generator().manual_seed(2))
    for row, end in zip(ids, (10, 7, 4), strict=True):
        row[end:] = 89
    return ids


def close(got, want):
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


def check_clip(model, parts):
    with torch.no_grad():
        close(image_features(parts, images()), model.get_image_features(images()).pooler_output)
        close(text_features(parts, texts()), model.get_text_features(texts()).pooler_output)
        close(parts.logit_scale, model.logit_scale)


def test_both_towers_of_clip_give_what_transformers_gives(clip):
    model, folder = clip
    check_clip(model, clip_towers(read_checkpoint(folder), read_hints(folder)))
    check_clip(model, clip_towers(read_checkpoint(folder / "model.safetensors")))


def test_the_config_beside_it_says_activation_epsilon_and_heads(tmp_path):
    model = write_clip(tmp_path, hidden_act="gelu", layer_norm_eps=1e-3, num_attention_heads=4)
    parts = clip_towers(read_checkpoint(tmp_path), read_hints(tmp_path))
    assert (parts.vision_config.heads, parts.text_config.heads) == (4, 4)
    check_clip(model, parts)


def test_the_image_tower_of_vit_b_32(tmp_path):
    vision, text = {"hidden_size": 768, "intermediate_size": 3072}, {**TEXT, "num_hidden_layers": 1}
    config = transformers.CLIPConfig(vision_config=vision, text_config=text)
    torch.manual_seed(0)
    model = transformers.CLIPModel(config).eval()
    model.save_pretrained(tmp_path)
    parts = clip_towers(read_checkpoint(tmp_path), read_hints(tmp_path))
    shape = parts.vision_config
    assert (shape.image_px, shape.patch_px, shape.width, shape.depth, shape.heads) == (224, 32, 768, 12, 12)
    with torch.no_grad():
        close(image_features(parts, images(224, 2)), model.get_image_features(images(224, 2)).pooler_output)


def test_a_checkpoint_in_parts(clip, tmp_path):
    model, _ = clip
    model.save_pretrained(tmp_path, max_shard_size="300KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    check_clip(model, clip_towers(read_checkpoint(tmp_path), read_hints(tmp_path)))
    next(tmp_path.glob("*-00001-*")).unlink()
    with pytest.raises(WeightsError, match="is missing"):
        read_checkpoint(tmp_path)


def test_an_index_does_not_lead_out_of_its_folder(clip, tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"logit_scale": str(clip[1] / "model.safetensors")}})
    )
    with pytest.raises(WeightsError, match="no safetensors file beside it"):
        read_checkpoint(tmp_path)


def test_the_layout_of_open_clip(clip, tmp_path):
    model, folder = clip
    save_file(as_open_clip(load_file(folder / "model.safetensors")), tmp_path / "open_clip_model.safetensors")
    with pytest.raises(WeightsError, match="which activation"):
        clip_towers(read_checkpoint(tmp_path), read_hints(tmp_path))
    config = {"vision_cfg": {"width": 128, "head_width": 64}, "text_cfg": {"heads": 1}, "quick_gelu": True}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    check_clip(model, clip_towers(read_checkpoint(tmp_path), read_hints(tmp_path)))
    config.pop("quick_gelu")  # its default is GELU
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    parts = clip_towers(read_checkpoint(tmp_path), read_hints(tmp_path))
    assert (parts.vision_config.quick_gelu, parts.text_config.quick_gelu) == (False, False)


def write_vit(folder, kind="ViTModel", **options):
    torch.manual_seed(0)
    model = shaken(getattr(transformers, kind)(transformers.ViTConfig(**VISION, **SMALL, **options)))
    model.save_pretrained(folder)
    return model


def test_vit_and_dino_in_both_layouts(tmp_path):
    model = write_vit(tmp_path, layer_norm_eps=1e-6)
    with torch.no_grad():
        want = model(images()).last_hidden_state
    theirs = read_checkpoint(tmp_path)
    state, config = vit_tower(theirs, read_hints(tmp_path))
    close(vit_of(config, state)(images()), want)
    state, config = vit_tower(as_timm(theirs))
    close(vit_of(config, state)(images()), want)
    del state["layernorm.weight"]  # what is returned is the caller's
    assert "layernorm.weight" in vit_tower(as_timm(theirs))[0]


def test_a_classifier_is_read_without_its_head(tmp_path):
    model = write_vit(tmp_path, "ViTForImageClassification")
    state, config = vit_tower(read_checkpoint(tmp_path), read_hints(tmp_path))
    with torch.no_grad():
        close(vit_of(config, state)(images()), model.vit(images()).last_hidden_state)


def test_another_grid_only_when_asked_for(clip):
    state = read_checkpoint(clip[1])
    with pytest.raises(WeightsError, match=r"for images of 32 px \(4 x 4 patches\), not 64 px"):
        clip_towers(state, image_px=64)
    small, large = clip_towers(state), clip_towers(state, image_px=64, interpolate=True)
    assert large.vision["position_embedding"].shape == (65, 128)
    close(large.vision["position_embedding"][0], small.vision["position_embedding"][0])
    back = clip_towers({**state, KEY: large.vision["position_embedding"]}, image_px=32, interpolate=True)
    assert back.vision_config == small.vision_config
    grids = [parts.vision["position_embedding"][1:] for parts in (small, back)]
    assert torch.corrcoef(torch.stack([grid.flatten() for grid in grids]))[0, 1] > 0.9
    assert vit_of(large.vision_config, large.vision)(images(64)).shape == (3, 65, 128)
    with pytest.raises(ConfigError, match="does not divide"):
        clip_towers(state, image_px=36)


KEY = "vision_model.embeddings.position_embedding.weight"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda s: s.pop("vision_model.pre_layrnorm.weight"), "nothing for 'pre_layernorm.weight'"),
        (lambda s: s.pop("text_model.encoder.layers.1.self_attn.k_proj.bias"), "nothing for .*k.bias"),
        (lambda s: s.pop("text_projection.weight"), "nothing for 'text_projection'"),
        (lambda s: s.pop("text_model.embeddings.position_embedding.weight"), "nothing for 'position_embedding'"),
        (lambda s: s.update({"vision_model.adapter.weight": torch.ones(2)}), "none of the transformers layout"),
        (lambda s: s.update({"visual_projection.weight": torch.ones(48, 3)}), r"is \(48, 3\), expected \('any', 128\)"),
        (lambda s: s.update({KEY: torch.ones(15, 128)}), "no square grid"),
        (lambda s: s.update({"vision_model.post_layernorm.bias": torch.ones(1)}), "expected"),
        (lambda s: s.pop("vision_model.embeddings.class_embedding"), "no CLIP layout"),
    ],
)
def test_what_is_not_whole_is_refused(clip, change, what):
    state = read_checkpoint(clip[1])
    change(state)
    with pytest.raises(WeightsError, match=what):
        clip_towers(state)


def test_numbered_positions_of_older_checkpoints_play_no_part(clip):
    state = {**read_checkpoint(clip[1]), "text_model.embeddings.position_ids": torch.arange(77)[None]}
    check_clip(clip[0], clip_towers(state))


def test_clip_is_no_plain_vit_and_the_other_way_round(clip, tmp_path):
    write_vit(tmp_path)
    with pytest.raises(WeightsError, match="no ViT layout"):
        vit_tower(read_checkpoint(clip[1]))
    with pytest.raises(WeightsError, match="no CLIP layout"):
        clip_towers(read_checkpoint(tmp_path))


def test_an_image_tower_of_clip_in_timms_layout_must_say_its_activation(clip, tmp_path):
    write_vit(tmp_path)
    state = as_timm(read_checkpoint(tmp_path))
    del state["patch_embed.proj.bias"]
    state |= {"norm_pre.weight": torch.ones(128), "norm_pre.bias": torch.zeros(128)}
    with pytest.raises(WeightsError, match="which activation"):
        vit_tower(state)
    _, config = vit_tower(state, Hints(TowerHints(quick_gelu=True)))
    assert (config.pre_layernorm, config.patch_bias, config.quick_gelu) == (True, False, True)


def test_an_unknown_activation_is_refused(clip, tmp_path):
    config = json.loads((clip[1] / "config.json").read_text())
    config["text_config"]["hidden_act"] = "relu"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match="activation 'relu' is not known"):
        read_hints(tmp_path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "clip.pt"])
def test_a_pickle_is_never_opened(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x80\x04.")
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(WeightsError, match="is never opened") as caught:
            read_checkpoint(path)
        assert "save_file" in str(caught.value)


def test_a_pickle_by_another_name_and_a_cut_file(clip, tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match="never opened"):
        read_checkpoint(tmp_path)
    whole = (clip[1] / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="safetensors"):
        read_checkpoint(tmp_path)


def test_which_file_of_a_folder(clip, tmp_path):
    with pytest.raises(WeightsError, match="no checkpoint at"):
        read_checkpoint(Path(tmp_path / "nowhere"))
    with pytest.raises(WeightsError, match="no safetensors file"):
        read_checkpoint(tmp_path)
    shutil.copy(clip[1] / "model.safetensors", tmp_path / "a.safetensors")
    check_clip(clip[0], clip_towers(read_checkpoint(tmp_path)))
    shutil.copy(clip[1] / "model.safetensors", tmp_path / "b.safetensors")
    with pytest.raises(WeightsError, match="2 safetensors files"):
        read_checkpoint(tmp_path)
