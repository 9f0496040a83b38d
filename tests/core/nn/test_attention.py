"""One attention, several kernels: the same numbers, the same gradients, and never memory for every pair."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from itertools import product
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stzoo.core.errors import UsageError
from stzoo.core.nn import attention_chunked
from stzoo.core.nn import scaled_dot_product as module
from stzoo.core.nn.backends import attention_backend
from stzoo.core.nn.scaled_dot_product import attention, xformers_problem
from torch.nn.attention import SDPBackend

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "attention.py"


def tensors(b=2, h=3, n=70, m=90, d=16, dv=None, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    sizes = ((n, d), (m, d), (m, dv or d))
    return [torch.randn(b, h, *size, generator=generator, dtype=dtype) for size in sizes]


def run(backend, q, k, v, bias=None, **options):
    """Output and gradients of q, k, v (and of a bias that requires one)."""
    leaves = [t.detach().clone().requires_grad_() for t in (q, k, v)]
    if bias is not None:
        options["bias"] = bias.detach().clone().requires_grad_(bias.requires_grad)
    out = attention(*leaves, backend=backend, **options)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    (out * weights).sum().backward()
    return [out.detach(), *(t.grad for t in leaves)] + ([options["bias"].grad] if "bias" in options else [])


def same(got, want, tolerance=1e-5):
    for a, b in zip(got, want, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


@pytest.fixture
def small_tiles(monkeypatch):
    """Tiles so small that every case has many of them, cut ones too."""
    monkeypatch.setattr(attention_chunked, "_tile_size", lambda heads, n, m, scores: (max(1, min(n, 16)), 32))


def masks(n, m):
    pad = torch.arange(m)[None, None, None, :] < torch.tensor([m, m // 2])[:, None, None, None]
    full = torch.rand(2, 1, n, m, generator=torch.Generator().manual_seed(1)) > 0.5
    full[0, 0, 3] = False  # a query that sees no key
    return {"none": None, "padding": pad, "full": full, "two_axes": full[0, 0]}


CASES = {
    "plain": {},
    "padding": {"mask": "padding"},
    "full_mask": {"mask": "full"},
    "two_axes": {"mask": "two_axes"},
    "bias": {"bias": (1, 3, 70, 90)},
    "bias_per_key": {"bias": (2, 1, 1, 90)},
    "bias_and_mask": {"bias": (1, 3, 70, 90), "mask": "full"},
    "bias_with_gradient": {"bias": (1, 3, 70, 90), "grad": True},
    "bias_per_key_with_gradient": {"bias": (1, 3, 1, 90), "grad": True, "mask": "full"},
    "causal": {"causal": True, "m": 70},
    "causal_cached_keys": {"causal": True},
    "causal_more_queries_than_keys": {"causal": True, "m": 50},
    "causal_and_padding": {"causal": True, "mask": "padding"},
    "other_value_width": {"dv": 5},
    "other_scale": {"scale": 0.5},
    "one_query": {"n": 1},
}


@pytest.mark.parametrize("backend", ["sdpa", "chunked"])
@pytest.mark.parametrize("case", CASES)
def test_backends_agree_with_the_formula(case, backend, small_tiles):
    options = dict(CASES[case])
    n, m = options.pop("n", 70), options.pop("m", 90)
    q, k, v = tensors(n=n, m=m, dv=options.pop("dv", None))
    grad = options.pop("grad", False)
    if "mask" in options:
        options["mask"] = masks(n, m)[options["mask"]]
    if "bias" in options:
        options["bias"] = torch.randn(options["bias"]).requires_grad_(grad)
    same(run(backend, q, k, v, **options), run("naive", q, k, v, **options))


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.tuples(*(st.integers(1, high) for high in (2, 3, 40, 40, 9, 9))),
    tile=st.tuples(st.integers(1, 17), st.integers(1, 17)),
    causal=st.booleans(),
    masked=st.booleans(),
    biased=st.booleans(),
)
def test_any_shape_in_any_tiles(sizes, tile, causal, masked, biased):
    b, h, n, m, d, dv = sizes
    q, k, v = tensors(b, h, n, m, d, dv, dtype=torch.float64)
    mask = torch.rand(b, 1, n, m) > 0.6 if masked else None
    bias = torch.randn(1, h, n, m, dtype=torch.float64).requires_grad_() if biased else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention_chunked, "_tile_size", lambda *_: tile)
        got = run("chunked", q, k, v, mask=mask, bias=bias, causal=causal)
    same(got, run("naive", q, k, v, mask=mask, bias=bias, causal=causal), tolerance=1e-10)


@pytest.mark.parametrize("backend", ["naive", "sdpa", "chunked"])
def test_a_query_that_sees_nothing_gives_zero_and_clean_gradients(backend):
    q, k, v = tensors()
    out, *gradients = run(backend, q, k, v, mask=torch.zeros(2, 1, 1, 90, dtype=torch.bool))
    assert (out == 0).all()
    assert all((g == 0).all() for g in gradients)


@pytest.mark.parametrize("shape", [(0, 90), (70, 0)])
def test_no_queries_or_no_keys(shape):
    q, k, v = tensors(n=shape[0], m=shape[1])
    out = attention(q, k, v)
    assert out.shape == (2, 3, shape[0], 16)
    assert (out == 0).all()


def test_dropout_has_right_gradients(small_tiles):
    q, k, v = (t.requires_grad_() for t in tensors(1, 2, 20, 40, 4, 3, dtype=torch.float64))

    def once(*leaves):
        torch.manual_seed(5)  # the same weights are dropped each time
        return attention(*leaves, dropout=0.3)

    assert torch.autograd.gradcheck(once, (q, k, v))


def test_dropout_drops_the_share_asked_for_and_keeps_the_mean():
    q, k, _ = tensors(1, 2, 200, 300, 8)
    v = torch.eye(300).expand(1, 2, 300, 300)  # the output is then the weights themselves
    torch.manual_seed(0)
    first, second = (attention(q, k, v, dropout=0.25) for _ in range(2))
    assert (first == 0).float().mean() == pytest.approx(0.25, abs=0.01)
    assert not torch.equal(first, second)
    want = attention(q, k, v)
    torch.testing.assert_close(first[first > 0], want[first > 0] / 0.75)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("backend", ["sdpa", "chunked"])
def test_half_precision_stays_near_float32(dtype, backend):
    q, k, v = tensors()
    half = run(backend, q.to(dtype), k.to(dtype), v.to(dtype))
    assert all(t.dtype == dtype for t in half)
    same([t.float() for t in half], run("naive", q, k, v), tolerance=0.05)


def test_tiles_are_exact_under_autocast():
    q, k, v = tensors()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = run("chunked", q, k, v)
    same(got, run("naive", q, k, v))


class TestRoutes:
    """What torch would do with all scores in memory never reaches it."""

    @pytest.fixture
    def fused(self, monkeypatch):
        calls = []
        real = module.scaled_dot_product_attention
        monkeypatch.setattr(module, "scaled_dot_product_attention", lambda *a, **kw: calls.append(kw) or real(*a, **kw))
        return calls

    @pytest.mark.parametrize("options", [{}, {"causal": True}, {"bias": torch.zeros(90)}], ids=str)
    def test_fused_kernels_do_what_they_can(self, fused, options):
        q, k, v = tensors(n=90)
        attention(q, k, v, **options)
        assert len(fused) == 1

    @pytest.mark.parametrize(
        ("options", "dv"),
        [({"dropout": 0.1}, 16), ({"bias": torch.zeros(90, requires_grad=True)}, 16), ({}, 5)],
        ids=["dropout", "bias that wants a gradient", "other value width"],
    )
    def test_the_rest_is_done_in_tiles(self, fused, options, dv):
        attention(*tensors(dv=dv), **options)
        assert fused == []

    def test_a_bias_without_gradient_mode_is_fused(self, monkeypatch):
        monkeypatch.delattr(module, "chunked_attention")
        with torch.no_grad():
            attention(*tensors(), bias=torch.zeros(90, requires_grad=True))

    def test_large_causal_masks_are_not_written_out(self, fused):
        q, k, v = tensors(1, 1, 1030, 1040, 4)
        attention(q, k, v, causal=True)
        assert fused == []

    def test_torch_never_chooses_its_math_kernel(self, monkeypatch):
        """Whatever is asked for, a call of SDPA is one that torch answers with a fused kernel."""

        def watched(q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None):
            chosen = torch._fused_sdp_choice(q, k, v, attn_mask, dropout_p, is_causal, scale=scale)
            assert SDPBackend(chosen) not in (SDPBackend.MATH, SDPBackend.ERROR)
            return q

        monkeypatch.setattr(module, "scaled_dot_product_attention", watched)
        for dtype in (torch.float32, torch.float64, torch.bfloat16):
            for dropout, causal, dv, bias in product((0.0, 0.1), (False, True), (16, 5), (None, False, True)):
                added = None if bias is None else torch.zeros(70, 90, dtype=dtype, requires_grad=bias)
                attention(*tensors(dv=dv, dtype=dtype), dropout=dropout, causal=causal, bias=added)

    def test_the_default_can_be_set_for_a_block(self, fused):
        with attention_backend("chunked"):
            attention(*tensors())
        assert fused == []
        attention(*tensors())
        assert len(fused) == 1


class TestXformers:
    def test_says_why_it_does_not_run_on_the_cpu(self):
        with pytest.raises(UsageError, match="CUDA only"):
            attention(*tensors(), backend="xformers")
        assert "cpu" in xformers_problem("cpu")

    def test_what_it_does_not_take_goes_another_way(self):
        q, k, v = tensors()
        mask = torch.ones(90, dtype=torch.bool)
        same(run("xformers", q, k, v, mask=mask), run("naive", q, k, v, mask=mask))

    def test_is_called_in_its_own_layout(self, monkeypatch):
        """A stand-in with the call of xformers.ops (there is no GPU here); queries come as (b, n, h, d)."""
        ops = types.ModuleType("xformers.ops")

        class LowerTriangularMask:
            pass

        def memory_efficient_attention(q, k, v, attn_bias=None, p=0.0, scale=None):
            q, k, v = (t.transpose(1, 2) for t in (q, k, v))
            causal = isinstance(attn_bias, LowerTriangularMask)
            return attention(q, k, v, causal=causal, scale=scale, backend="naive").transpose(1, 2)

        ops.LowerTriangularMask, ops.memory_efficient_attention = LowerTriangularMask, memory_efficient_attention
        package = types.ModuleType("xformers")
        package.ops = ops
        monkeypatch.setitem(sys.modules, "xformers", package)
        monkeypatch.setitem(sys.modules, "xformers.ops", ops)
        monkeypatch.setattr(module, "xformers_problem", lambda device, dtype: None)
        for options in ({}, {"scale": 0.3}, {"causal": True}):
            q, k, v = tensors(n=70, m=70)
            same(run("xformers", q, k, v, **options), run("naive", q, k, v, **options))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backend": "chunkt"}, "did you mean 'chunked'"),
        ({"dropout": 1.0}, "dropout 1.0"),
        ({"mask": torch.ones(90)}, "mask is torch.float32, not bool"),
        ({"mask": torch.ones(7, dtype=torch.bool)}, r"mask of shape \(7,\)"),
        ({"bias": torch.zeros(1, 1, 1, 1, 90)}, "bias of shape"),
        ({"q": torch.zeros(3, 70, 16)}, "batch, heads, tokens, width"),
        ({"q": torch.zeros(2, 3, 70, 17)}, "shapes do not fit"),
        ({"q": torch.zeros(2, 3, 70, 16, dtype=torch.float64)}, "torch.float64, torch.float32"),
    ],
    ids=lambda value: None if isinstance(value, str) else next(iter(value)),
)
def test_wrong_arguments_are_named(change, message):
    q, k, v = tensors()
    arguments = {"q": q, "k": k, "v": v, **change}
    with pytest.raises(UsageError, match=message):
        attention(**arguments)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize(
    ("backend", "mode", "mib"), [("sdpa", "forward", 128), ("chunked", "forward", 128), ("chunked", "both", 256)]
)
def test_4096_tokens_take_a_small_part_of_the_gibibyte_of_all_scores(backend, mode, mib):
    command = [sys.executable, BENCHMARK, "--one", backend, mode, "4096", "--threads", "1", "--repeats", "1"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    measured = json.loads(done.stdout)
    assert measured["peak_mib"] < mib
    assert not measured["xformers_imported"]
