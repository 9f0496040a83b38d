"""CLIP's text transformer: causal, whole or in two pieces."""

from __future__ import annotations

import pytest
import torch
from stzoo.core.errors import DataError
from stzoo.core.nn.clip_text import ClipText, ClipTextConfig
from torch.nn.functional import scaled_dot_product_attention

SMALL = {"vocabulary": 40, "positions": 16, "width": 24, "depth": 2, "heads": 3}


def text(**options):
    torch.manual_seed(0)
    model = ClipText(ClipTextConfig(**{**SMALL, **options})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))  # fresh weights are so small that attention hardly counts
    return model


def ids(b=3, n=9):
    return torch.randint(40, (b, n), generator=torch.Generator().manual_seed(1))


def close(got, want):
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


def test_a_token_sees_only_those_before_it():
    model = text()
    tokens = model.token_embedding(ids())
    whole = model(tokens)
    close(model(tokens[:, :5]), whole[:, :5])
    changed = tokens.clone()
    changed[:, 4] += torch.randn(24)
    again = model(changed)
    close(again[:, :4], whole[:, :4])
    assert (again[:, 4:] - whole[:, 4:]).abs().amax(-1).min() > 1e-3


def test_order_counts():
    model = text()
    assert not torch.allclose(
        model(model.token_embedding(ids()))[:, -1], model(model.token_embedding(ids().roll(1, 1)))[:, -1]
    )


@pytest.mark.parametrize("cut", [1, 5, 8])
def test_two_pieces_give_the_whole_and_its_gradients(cut):
    model, got, want = text(), {}, {}
    places = torch.arange(cut, 9).expand(3, -1)
    tokens = model.token_embedding(ids())
    whole = model(tokens)[:, cut:]
    pieces = model.suffix(tokens[:, cut:], places, model.prefix(tokens[:, :cut]))
    close(pieces, whole)
    for out, grads in ((whole, want), (pieces, got)):
        model.zero_grad()
        out.square().sum().backward(retain_graph=True)
        grads.update({name: p.grad.clone() for name, p in model.named_parameters()})
    for name, grad in want.items():
        assert grad.abs().sum() > 0 or name.endswith("qkv.bias"), name
        torch.testing.assert_close(got[name], grad, atol=1e-4, rtol=1e-4, msg=name)


def test_several_endings_at_once_under_a_mask():
    model = text()
    tokens = model.token_embedding(ids())
    two = torch.cat([tokens[:, 5:], tokens[:, 5:].flip(1)], dim=1)  # two endings of 4 tokens after 5
    lower = torch.ones(4, 4, dtype=torch.bool).tril()
    mask = torch.cat([torch.ones(8, 5, dtype=torch.bool), torch.block_diag(lower, lower)], dim=1)
    places = torch.arange(5, 9).repeat(2).expand(3, -1)
    got = model.suffix(two, places, model.prefix(tokens[:, :5]), mask=mask[None, None])
    close(got[:, :4], model(tokens)[:, 5:])
    close(got[:, 4:], model(torch.cat([tokens[:, :5], tokens[:, 5:].flip(1)], dim=1))[:, 5:])


def test_a_text_that_is_too_long():
    model = text(positions=8)
    with pytest.raises(DataError, match="a text of 9 tokens; this text tower reads 8"):
        model(model.token_embedding(ids()))
    with pytest.raises(DataError, match="9 tokens"):
        model.prefix(model.token_embedding(ids()))


def test_only_the_house_attention_runs(monkeypatch):
    calls = []

    def count(*args, **options):
        calls.append((args[0].shape[2], args[1].shape[2]))
        return scaled_dot_product_attention(*args, **options)

    monkeypatch.setattr("stzoo.core.nn.scaled_dot_product.scaled_dot_product_attention", count)
    model = text()
    tokens = model.token_embedding(ids())
    past = model.prefix(tokens[:, :5])
    model.suffix(tokens[:, 5:], torch.arange(5, 9).expand(3, -1), past)
    assert calls == [(5, 5)] * 2 + [(4, 9)] * 2
