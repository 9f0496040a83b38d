"""The vision transformer: the arithmetic of CLIP and timm, on all patches or on some."""

from __future__ import annotations

import pytest
import torch
from stzoo.core.errors import ConfigError, DataError
from stzoo.core.nn.vit import ViT, ViTConfig, take
from torch.nn.functional import scaled_dot_product_attention

SMALL = {"image_px": 32, "patch_px": 8, "width": 24, "depth": 2, "heads": 3}
CLIP = {"pre_layernorm": True, "quick_gelu": True, "patch_bias": False, "eps": 1e-5}


def vit(**options):
    torch.manual_seed(0)
    return ViT(ViTConfig(**{**SMALL, **options})).eval()


def images(b=2):
    return torch.randn(b, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def by_hand(model, x):
    """The same network written out from its weights alone: patches by slicing, heads by a loop."""
    c, p = model.config, model.config.patch_px
    w = {k: v.detach() for k, v in model.state_dict().items()}

    def norm(t, name):
        t = (t - t.mean(-1, keepdim=True)) / (t.var(-1, keepdim=True, unbiased=False) + c.eps).sqrt()
        return t * w[f"{name}.weight"] + w[f"{name}.bias"]

    rows = [x[:, :, i : i + p, j : j + p].flatten(1) for i in range(0, 32, p) for j in range(0, 32, p)]
    t = torch.stack(rows, 1) @ w["patch_embedding.weight"].flatten(1).T + w.get("patch_embedding.bias", 0.0)
    t = torch.cat([w["class_embedding"].expand(len(x), 1, -1), t], 1) + w["position_embedding"]
    t = norm(t, "pre_layernorm") if c.pre_layernorm else t
    for i in range(c.depth):
        name = f"blocks.{i}"
        q, k, v = (
            norm(t, f"{name}.norm1") @ w[f"{name}.attention.qkv.weight"].T + w[f"{name}.attention.qkv.bias"]
        ).chunk(3, -1)
        d = c.width // c.heads
        heads = [
            ((q[..., h : h + d] @ k[..., h : h + d].mT) / d**0.5).softmax(-1) @ v[..., h : h + d]
            for h in range(0, c.width, d)
        ]
        t = t + torch.cat(heads, -1) @ w[f"{name}.attention.proj.weight"].T + w[f"{name}.attention.proj.bias"]
        h = norm(t, f"{name}.norm2") @ w[f"{name}.mlp.fc1.weight"].T + w[f"{name}.mlp.fc1.bias"]
        h = h * torch.sigmoid(1.702 * h) if c.quick_gelu else torch.nn.functional.gelu(h)
        t = t + h @ w[f"{name}.mlp.fc2.weight"].T + w[f"{name}.mlp.fc2.bias"]
    return norm(t, "layernorm")


@pytest.mark.parametrize("options", [{}, CLIP], ids=["timm", "clip"])
def test_is_the_network_of_the_papers(options):
    model = vit(**options)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                parameter.add_(torch.randn_like(parameter) * 0.1)  # so that norms and biases count
        got = model(images())
    assert got.shape == (2, 17, 24)
    torch.testing.assert_close(got, by_hand(model, images()), atol=1e-5, rtol=1e-5)


def test_modules_are_named_as_checkpoints_are_mapped():
    names = set(vit(**CLIP, depth=1).state_dict())
    stems = {n.rsplit(".", 1)[0] if n.endswith(("weight", "bias")) else n for n in names}
    block = {"norm1", "attention.qkv", "attention.proj", "norm2", "mlp.fc1", "mlp.fc2"}
    top = {"patch_embedding", "class_embedding", "position_embedding", "pre_layernorm", "layernorm"}
    assert stems == top | {f"blocks.0.{part}" for part in block}
    assert "patch_embedding.bias" not in names


def test_order_of_patches_does_not_matter_for_positions_are_in_them():
    model = vit()
    patches = model.embed_patches(images())
    order = torch.randperm(16)
    straight, turned = model.encode(patches), model.encode(patches[:, order])
    torch.testing.assert_close(turned[:, 1:], straight[:, 1:][:, order], atol=1e-5, rtol=1e-5)


def test_a_subset_of_patches_runs_as_if_the_others_were_not_there():
    model = vit()
    patches = model.embed_patches(images())
    index = torch.tensor([[0, 5, 9], [1, 2, 15]])
    some = model.encode(take(patches, index))
    assert some.shape == (2, 4, 24)
    kept = torch.zeros(2, 16, dtype=torch.bool).scatter(1, index, True)
    masked = model.encode(patches, mask=kept)
    torch.testing.assert_close(masked[:, 0], some[:, 0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(take(masked[:, 1:], index), some[:, 1:], atol=1e-5, rtol=1e-5)


def test_gradients_reach_every_parameter():
    model = vit(**CLIP)
    model(images()).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for n, p in model.named_parameters() if n != "layernorm")


def test_dropout_only_in_training():
    model = vit(dropout=0.5)
    assert torch.equal(model(images()), model(images()))
    model.train()
    assert not torch.equal(model(images()), model(images()))


def test_only_the_house_attention_runs(monkeypatch):
    calls = []

    def count(*args, **options):
        calls.append(args[0].shape)
        return scaled_dot_product_attention(*args, **options)

    monkeypatch.setattr("stzoo.core.nn.scaled_dot_product.scaled_dot_product_attention", count)
    vit()(images())
    assert calls == [(2, 3, 17, 8)] * 2


def test_same_seed_same_weights():
    one, other = vit().state_dict(), vit().state_dict()
    assert all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("options", [{"patch_px": 7}, {"patch_px": 0}, {"heads": 5}, {"heads": 0}])
def test_impossible_shapes_are_refused(options):
    with pytest.raises(ConfigError, match="divi"):
        vit(**options)


@pytest.mark.parametrize("shape", [(2, 3, 32, 40), (2, 1, 32, 32), (3, 32, 32)])
def test_wrong_images_are_refused(shape):
    with pytest.raises(DataError, match=r"\(b, 3, 32, 32\)"):
        vit()(torch.zeros(shape))
