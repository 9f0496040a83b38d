"""The only attention in the house: one function, several kernels, one result.

``auto`` takes xformers where a small tensor really went through it (CUDA, with the extra ``xformers``), and torch's
fused scaled-dot-product kernels everywhere else; :mod:`stzoo.core.nn.backends` chooses another one. What torch's would
only do through a full (n, m) matrix of scores (on a CPU: a bias that wants a gradient, dropout, values of another width
than the queries) is done in tiles instead, so memory never grows with n * m, whatever is asked for. Weights do not
know which kernel ran.
"""

from __future__ import annotations

import functools

import torch
from stzoo.core.errors import UsageError
from stzoo.core.nn.attention_chunked import chunked_attention
from stzoo.core.nn.backends import Backend, attention_backend, check_backend, get_backend, use_attention
from torch import Tensor
from torch.nn.attention import SDPBackend
from torch.nn.functional import dropout as drop
from torch.nn.functional import scaled_dot_product_attention

__all__ = ["Backend", "attention", "attention_backend", "backend_in_use", "use_attention", "xformers_problem"]

_SMALL = 1 << 20  # causal masks up to this many elements may be written out (1 MiB)


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    dropout: float = 0.0,
    causal: bool = False,
    scale: float | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """Return softmax(q k^T * scale + bias) v, without ever holding the scores of all pairs.

    Parameters
    ----------
    q, k, v
        Queries (b, h, n, d), keys (b, h, m, d), values (b, h, m, dv), of one floating dtype and device; under torch's
        autocast they may differ in dtype, and are cast to its own as torch's kernels do.
    mask
        bool, True where a query may look; broadcasts to (b, h, n, m), e.g. (b, 1, 1, m) for padding.
    bias
        Finite float added to the scores; broadcasts to (b, h, n, m); may require a gradient.
    dropout
        Share of weights to drop, in [0, 1); the caller passes 0 outside of training.
    causal
        Query i sees keys up to i + m - n, so that the last query sees all (as with cached keys); on top of ``mask``.
    scale
        Factor on the scores; by default ``d ** -0.5``.
    backend
        ``auto``: what was chosen outside (:mod:`stzoo.core.nn.backends`), else what runs there. ``sdpa``: torch's
        fused kernels, tiles where they would fall back to their O(n * m) path. ``xformers``: CUDA only; what it does
        not take (mask, bias, values of another width) goes the ``sdpa`` way. ``chunked``: tiles. ``naive``: all scores
        at once, for tests and benchmarks.

    Returns
    -------
    (b, h, n, dv); 0 for a query that sees no key. Shapes and dtypes that do not fit, an unknown backend, and
    xformers where it does not run are a UsageError.
    """
    q, k, v = _one_dtype(q, k, v)
    _check(q, k, v, dropout)
    backend = _resolve_backend(backend, q.device, q.dtype)
    mask, bias = _extras(q, k, mask, bias)
    scale = q.shape[3] ** -0.5 if scale is None else scale
    if backend == "naive":
        return _naive(q, k, v, mask, bias, dropout, causal, scale)
    out = None
    if backend == "xformers" and mask is None and bias is None:
        out = _xformers(q, k, v, dropout, causal, scale)
    if out is None and backend != "chunked":
        out = _sdpa(q, k, v, mask, bias, dropout, causal, scale)
    if out is None:
        out = chunked_attention(q, k, v, mask, bias, scale=scale, causal=causal, dropout=dropout)
    return out


def backend_in_use(device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Backend:
    """Return the backend that attention on a device runs on: what was chosen, and for ``auto`` what that comes to.

    Raises
    ------
    UsageError
        What was chosen does not exist, or does not run there.
    """
    return _resolve_backend("auto", torch.device(device), dtype)


def _resolve_backend(backend: str, device: torch.device, dtype: torch.dtype) -> Backend:
    """Return the backend to run, never ``auto``."""
    wanted = get_backend() if backend == "auto" else check_backend(backend)
    if wanted == "auto":
        return "xformers" if device.type == "cuda" and xformers_problem(device, dtype) is None else "sdpa"
    if wanted == "xformers" and backend == "auto":
        _require_xformers(device, dtype)
    return wanted


def xformers_problem(device: torch.device | str = "cuda", dtype: torch.dtype = torch.float16) -> str | None:
    """Return why xformers can not be used on a device, or None when a small tensor went through it and back.

    xformers' own table of operators says "available" also where a call fails, so it is asked by a call.
    """
    device = torch.device(device)
    if device.type != "cuda":
        return f"xformers runs on CUDA only, and the tensors are on {device.type}"
    if not torch.cuda.is_available():
        return "no CUDA device is available"
    return _probe(device, dtype)


@functools.lru_cache(maxsize=32)
def _probe(device: torch.device, dtype: torch.dtype) -> str | None:
    try:
        import xformers.ops as xops

        x = torch.zeros(1, 16, 2, 32, device=device, dtype=dtype, requires_grad=True)
        xops.memory_efficient_attention(x, x, x).sum().backward()
    except (ImportError, OSError, RuntimeError, NotImplementedError, ValueError) as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return None


def _require_xformers(device: torch.device, dtype: torch.dtype) -> None:
    problem = xformers_problem(device, dtype)
    if problem is not None:
        raise UsageError(f"attention backend 'xformers' does not run here: {problem}", todo="use backend 'sdpa'")


def _xformers(q: Tensor, k: Tensor, v: Tensor, dropout: float, causal: bool, scale: float) -> Tensor | None:
    """Return what xformers gives, or None when it does not take these tensors."""
    _require_xformers(q.device, q.dtype)
    if v.shape[3] != q.shape[3] or (causal and q.shape[2] != k.shape[2]) or min(q.shape[2], k.shape[2]) == 0:
        return None
    import xformers.ops as xops

    bias = xops.LowerTriangularMask() if causal else None
    by_token = (t.transpose(1, 2) for t in (q, k, v))  # (b, n, h, d)
    out: Tensor = xops.memory_efficient_attention(*by_token, attn_bias=bias, p=dropout, scale=scale)
    return out.transpose(1, 2)


def _sdpa(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    dropout: float,
    causal: bool,
    scale: float,
) -> Tensor | None:
    """Return what torch's fused kernels give, or None when it would take memory for every pair."""
    n, m = q.shape[2], k.shape[2]
    if causal and (mask is not None or bias is not None or n != m):
        if n * m > _SMALL:
            return None
        mask, causal = _with_causal(mask, n, m, q.device), False
    mask, seen = _open_blind_rows(mask)
    added = mask
    if bias is not None:
        bias = bias if torch.is_grad_enabled() else bias.detach()  # kernels decline a bias that could want a gradient
        added = bias.to(q.dtype) if mask is None else bias.to(q.dtype).masked_fill(~mask, -torch.inf)
    # The very question that scaled_dot_product_attention asks itself; sdpa_kernel would do without the private
    # name, but it sets flags of the whole process, which threads then leave in each other's state.
    chosen = torch._fused_sdp_choice(q, k, v, added, dropout, causal, scale=scale)
    if min(n, m) == 0 or chosen in (SDPBackend.MATH.value, SDPBackend.ERROR.value):
        return None
    out = scaled_dot_product_attention(q, k, v, attn_mask=added, dropout_p=dropout, is_causal=causal, scale=scale)
    return out if seen is None else out.masked_fill(~seen, 0.0)


def _naive(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    dropout: float,
    causal: bool,
    scale: float,
) -> Tensor:
    """Do it as the formula says; memory O(n * m)."""
    if causal:
        mask = _with_causal(mask, q.shape[2], k.shape[2], q.device)
    mask, seen = _open_blind_rows(mask)
    scores = q @ k.mT * scale  # (b, h, n, m)
    if bias is not None:
        scores = scores + bias
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    out = drop(scores.softmax(-1), dropout) @ v
    return out if seen is None else out.masked_fill(~seen, 0.0)


def _one_dtype(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cast to the dtype of autocast where it runs and left them different: a parameter as a query stays in float32."""
    if q.dtype == k.dtype == v.dtype or not torch.is_autocast_enabled(q.device.type):
        return q, k, v
    dtype = torch.get_autocast_dtype(q.device.type)
    return q.to(dtype), k.to(dtype), v.to(dtype)


def _with_causal(mask: Tensor | None, n: int, m: int, device: torch.device) -> Tensor:
    lower = torch.ones(n, m, dtype=torch.bool, device=device).tril(m - n)
    return lower[None, None] if mask is None else mask & lower


def _open_blind_rows(mask: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Let queries that see nothing see everything, and return which ones see something: their output becomes 0.

    A softmax over nothing is NaN in some kernels, and its gradient in more; so no kernel is given one.
    """
    if mask is None:
        return None, None
    seen = mask.any(-1, keepdim=True)  # (1|b, 1|h, 1|n, 1)
    return mask | ~seen, seen


def _extras(q: Tensor, k: Tensor, mask: Tensor | None, bias: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Return mask and bias with four axes, each full or 1."""
    if mask is not None and mask.dtype != torch.bool:
        raise UsageError(f"attention: mask is {mask.dtype}, not bool", todo="use mask for True/False, bias for numbers")
    pairs = (*q.shape[:3], k.shape[2])
    return _four(mask, "mask", pairs), _four(bias, "bias", pairs)


def _four(extra: Tensor | None, name: str, pairs: tuple[int, ...]) -> Tensor | None:
    if extra is None:
        return None
    fits = extra.ndim <= 4 and all(
        have in (1, want) for have, want in zip(reversed(extra.shape), reversed(pairs), strict=False)
    )
    if not fits:
        raise UsageError(f"attention: {name} of shape {tuple(extra.shape)} does not broadcast to {pairs}")
    return extra.reshape((1,) * (4 - extra.ndim) + tuple(extra.shape))


def _check(q: Tensor, k: Tensor, v: Tensor, dropout: float) -> None:
    shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}"
    if not (q.ndim == k.ndim == v.ndim == 4):
        raise UsageError(f"attention: {shapes}", todo="give q, k and v as (batch, heads, tokens, width)")
    if q.shape[:2] != k.shape[:2] or k.shape[:3] != v.shape[:3] or q.shape[3] != k.shape[3]:
        raise UsageError(f"attention: shapes do not fit: {shapes}", todo="(b, h, n, d), (b, h, m, d), (b, h, m, dv)")
    if not (q.dtype == k.dtype == v.dtype) or not q.is_floating_point():
        raise UsageError(f"attention: q, k and v are {q.dtype}, {k.dtype}, {v.dtype}", todo="use one floating dtype")
    if not 0.0 <= dropout < 1.0:
        raise UsageError(f"attention: dropout {dropout} is not in [0, 1)")
