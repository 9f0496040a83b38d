"""Low-rank adapters."""

from __future__ import annotations

import sys

import pytest
import torch
from stzoo.core.errors import UsageError
from stzoo.core.nn.adapters import adapt, merge
from stzoo.core.nn.vit import ViT, ViTConfig

LAYERS = ["blocks.0.attention.qkv", "blocks.0.mlp.fc1"]


@pytest.fixture
def vit() -> ViT:
    torch.manual_seed(0)
    return ViT(ViTConfig(image_px=32, patch_px=16, width=16, depth=2, heads=2)).eval()


def test_adapters_start_at_nothing_and_merge_into_usual_names(vit: ViT) -> None:
    images, before = torch.randn(2, 3, 32, 32), {k: v.clone() for k, v in vit.state_dict().items()}
    expected = vit(images)
    adapt(vit, LAYERS, rank=3, seed=0)
    assert torch.equal(vit(images), expected)
    tuned = {name for name, p in vit.named_parameters() if p.requires_grad}
    assert len(tuned) == 4
    assert all("lora_" in name for name in tuned)
    optimiser = torch.optim.SGD([p for p in vit.parameters() if p.requires_grad], lr=1.0)
    for _ in range(2):
        optimiser.zero_grad()
        vit(images).square().sum().backward()
        optimiser.step()
    changed = vit(images)
    merge(vit)
    assert vit.state_dict().keys() == before.keys()
    torch.testing.assert_close(vit(images), changed, atol=1e-5, rtol=1e-4)
    moved = {k for k, v in vit.state_dict().items() if not torch.equal(v, before[k])}
    assert moved == {f"{layer}.weight" for layer in LAYERS}


def test_a_seed_gives_the_same_adapters(vit: ViT) -> None:
    states = []
    for _ in range(2):
        torch.rand(3)
        other = ViT(vit.config)
        other.load_state_dict(vit.state_dict())
        adapt(other, LAYERS, rank=2, seed=5)
        states.append({k: v for k, v in other.state_dict().items() if "lora_A" in k})
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def test_no_such_layer(vit: ViT) -> None:
    with pytest.raises(UsageError, match="nothere"):
        adapt(vit, ["nothere"], rank=2, seed=0)


def test_without_peft_the_extra_is_named(vit: ViT, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UsageError, match=r"stzoo\[finetune\]"):
        adapt(vit, LAYERS, rank=2, seed=0)
