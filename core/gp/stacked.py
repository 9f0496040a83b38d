"""Kernels and blocks for the measured spots of several sections: what every kriging over a stack shares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from scipy.spatial import cKDTree
from stzoo.core.arrays import Doubles, Floats, Indices, Points
from stzoo.core.gp.fitting import Choice, centre, choose, few, likelihoods, pieces
from stzoo.core.gp.kernels import CORRELATIONS, Kernel, Places, length_scales, with_features
from stzoo.core.gp.partition import FIT_SPOTS, fit_blocks, halves, surroundings
from stzoo.core.runtime.ranks import ALONE, Ranks

LENGTHS = 10
"""Length scales tried."""
FEW_LENGTHS = 3
"""Length scales kept beyond that size: each costs an eigendecomposition of all measured spots."""
EXACT = 3000
"""Up to this many measured spots (of all sections together) are solved at once; time grows with their cube."""
NEIGHBOURHOOD = 1200
"""Beyond that, spots are predicted block by block from this many nearest measured spots."""


def choose_kernels(
    seen: Places,
    columns: Floats | Doubles,
    *,
    spacing: float,
    extent: float,
    exact: int = EXACT,
    leading: int | None = None,
    ranks: Ranks = ALONE,
) -> Choice:
    """Choose kernel and noise ratio of every column by their likelihood on blocks of the measured spots.

    The correlation of sections, and the weight and length scale of features, are the ones of greatest likelihood
    summed over columns; length scale and noise are every column's own.

    Parameters
    ----------
    seen
        Places of the measured spots.
    columns
        float (n, c).
    spacing, extent
        Distance of measured neighbours, and size of the whole, µm: between them length scales are tried.
    exact
        With more measured spots than this one length scale serves all columns.
    leading
        Only the first so many columns decide what all share; by default all do.
    ranks
        The processes that share the kernels to try; all call this.
    """
    blocks = [(seen.take(part), centre(columns[part])) for part in fit_blocks(seen.um)]
    several = len(set(seen.section.tolist())) > 1
    lengths = length_scales(spacing, extent, LENGTHS)
    kernels = [Kernel(length, c) for c in (CORRELATIONS if several else (1.0,)) for length in lengths]
    kernels, likelihood = _settle(kernels, likelihoods(kernels, blocks, ranks), leading)
    if seen.features is not None:
        kernels = [option for kernel in kernels for option in with_features(kernel)]
        kernels, likelihood = _settle(kernels, likelihoods(kernels, blocks, ranks), leading)
    n = len(seen)
    if n > FIT_SPOTS:
        kept = few(likelihood.max(axis=1), FEW_LENGTHS if n <= exact else 1)
        kernels, likelihood = [kernels[i] for i in kept], likelihood[kept]
    return choose(kernels, likelihood)


def blocks_around(
    um: Points, seen: Points, *, exact: int = EXACT, neighbourhood: int = NEIGHBOURHOOD, ranks: Ranks = ALONE
) -> Iterator[tuple[Indices, Indices]]:
    """Yield blocks of spots, indices into ``um``, with the measured ones, indices into ``seen``, that predict them.

    Parameters
    ----------
    um, seen
        float64 (m, 2) and (n, 2), micrometres in the common frame.
    ranks
        The processes that share the spots; each gets blocks of its own. Up to ``exact`` measured spots that is one
        block, a run of the spots.
    """
    n = len(seen)
    if n <= exact:
        every = list(pieces(len(um)))
        own = [np.arange(every[number].start, every[number].stop) for number in ranks.my_jobs(len(every))]
        if own:
            yield np.concatenate(own), np.arange(n)
        return
    tree = cKDTree(seen)
    most = max(16, round(len(um) / n * neighbourhood / 4))  # a quarter inside, the rest is margin
    parts = list(halves(um, most))
    for number in ranks.my_jobs(len(parts)):
        yield parts[number], surroundings(tree, um[parts[number]], neighbourhood)


def _settle(kernels: Sequence[Kernel], likelihood: Doubles, leading: int | None) -> tuple[list[Kernel], Doubles]:
    """Keep the kernels (of all length scales) with the section correlation and features of greatest likelihood."""
    kinds = [replace(kernel, length=1.0) for kernel in kernels]
    members = {kind: [i for i, other in enumerate(kinds) if other == kind] for kind in dict.fromkeys(kinds)}
    best = max(members.values(), key=lambda index: float(likelihood[index, :, :leading].max(axis=(0, 1)).sum()))
    return [kernels[i] for i in best], likelihood[best]
