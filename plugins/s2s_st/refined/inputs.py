"""Inputs of the refined variant (ours): grid positions of a section, and the columns that are kriged.

Columns are the leading principal components of the measured profiles, which capture what genes share, and then the
genes themselves, all centred and scaled to standard deviation 1 over the measured spots.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from stzoo import Section
from stzoo.core.arrays import Doubles, Floats, Indices
from stzoo.core.data.sampling import informative
from stzoo.core.gp import Components, Places, fit_blocks, relative_noise
from stzoo.plugins.s2s_st.lattice import Lattice
from stzoo.plugins.s2s_st.refined.tiles import Tile, cut_tiles

LEAST_DEPTH = 0.02
"""Floor on relative depth: bins below this share of the median (next to no tissue) get the noise of this share."""


@dataclass(frozen=True)
class RefinedInputs:
    """A section on its grid, standardised for kriging.

    Parameters
    ----------
    lattice
        Where its spots lie.
    seen
        intp (n,), spots that were measured and have counts, row by row of the lattice.
    places
        Of these, in pitches of the lattice, with their relative noise.
    columns
        float64 (n, k + g), components, then genes; mean 0 by the spots' weights, standard deviation 1.
    spread
        float64 (k + g,), the standard deviations divided out; 0 for a gene that does not vary.
    loadings
        float64 (k, g), of the components in log-normalised units.
    shares
        float64 (k, g), share of each gene's variance that each component explains.
    means, floor
        float64 (g,), weighted means, and the lower bound of predictions: the lowest measured value, or 0.
    shift
        Half a pitch by which odd rows are moved, of a hexagonal lattice: -1, 0 or 1 halves.
    """

    lattice: Lattice
    seen: Indices
    places: Places
    columns: Doubles
    spread: Doubles
    loadings: Doubles
    shares: Doubles
    means: Doubles
    floor: Doubles
    shift: int

    @classmethod
    def of(cls, section: Section, values: Floats, components: int, *, seed: int) -> RefinedInputs:
        """Prepare a section; ``values``, (n, g), are read at measured spots only."""
        lattice = Lattice.of(section)
        seen = np.flatnonzero(informative(section))
        seen = seen[np.lexsort((lattice.col[seen], lattice.row[seen]))]  # the file's order must not matter
        noise = relative_noise(np.maximum(section.depth[seen], 1e-9), least=LEAST_DEPTH)
        weights = 1 / noise / (1 / noise).sum()
        y = values[seen].astype(np.float64)
        means, floor = weights @ y, np.minimum(y.min(axis=0), 0.0)
        y = (y - means).astype(np.float32)
        y[:, np.abs(y).max(axis=0) < 1e-6] = 0.0  # rounding of a mean is no variation
        found = Components.of(y, components, seed=seed, weights=weights)
        columns = np.hstack([found.scores, y]).astype(np.float64)
        spread = columns.std(axis=0)
        columns = np.divide(columns, spread, out=np.zeros_like(columns), where=spread > 0)
        shift = _shift(section, lattice)
        at = _places(lattice.row[seen], lattice.col[seen], shift)
        places = replace(at, noise=noise)
        return cls(
            lattice,
            seen,
            places,
            columns,
            spread,
            found.loadings.astype(np.float64),
            found.shares().astype(np.float64),
            means,
            floor,
            shift,
        )

    @property
    def n_components(self) -> int:
        """Number of components."""
        return len(self.loadings)

    @property
    def share(self) -> float:
        """Share of the spots that was measured."""
        return len(self.seen) / len(self.lattice.row)

    @property
    def spacing(self) -> float:
        """Mean distance of measured spots, pitches."""
        return float(self.share**-0.5)

    def cut_tiles(self) -> list[Tile]:
        """Return the tiles in which the section is worked on."""
        return list(cut_tiles(self.lattice.shape, len(self.seen), self.share))

    def around(self, tile: Tile) -> Indices:
        """Return the measured spots of a tile and its margin, indices into ``seen``."""
        return tile.around(self.lattice.row[self.seen], self.lattice.col[self.seen])

    def cells(self, tile: Tile) -> Places:
        """Return all cells of a tile and its margin, occupied or not."""
        return _places(*tile.cells(), self.shift)

    def spots(self, index: Indices) -> Places:
        """Return where some spots of the section lie."""
        return _places(self.lattice.row[index], self.lattice.col[index], self.shift)

    def fit_blocks(self) -> list[Indices]:
        """Return the blocks of measured spots, indices into ``seen``, that kernels are chosen on."""
        return fit_blocks(self.places.um)

    def combine_components(self, components: Doubles, genes: Indices) -> Doubles:
        """Reconstruct genes from predicted components, (m, k) in standard deviations.

        Returns
        -------
        float64 (m, p), log-normalised without the genes' means.
        """
        return np.asarray((components * self.spread[: self.n_components]) @ self.loadings[:, genes])

    def add_means(self, values: Doubles, genes: Indices) -> Doubles:
        """Add the means of genes to float64 (m, p), and clip at the floor."""
        return np.asarray(np.maximum(values + self.means[genes], self.floor[genes]))


def _places(row: Indices, col: Indices, shift: int) -> Places:
    """Return places of the grid in pitches; rows of a hexagonal lattice are closer, and every second one is moved."""
    y, x = row.astype(np.float64), col.astype(np.float64)
    if shift:
        y, x = y * np.sqrt(0.75), x + shift * 0.5 * (row % 2)
    return Places(np.column_stack([y, x]), np.zeros(len(row), dtype=np.intp))


def _shift(section: Section, lattice: Lattice) -> int:
    """Return by how many halves of a pitch odd rows lie to the right: 0 on a square lattice.

    Array columns were halved: those of one parity lost a half.
    """
    if lattice.kind == "square":
        return 0
    array_col = np.rint(np.asarray(section.adata.obs["array_col"], dtype=np.float64)).astype(np.intp)
    odd = lattice.row % 2 == 1
    return 1 if (array_col[odd] % 2 == 1).any() else -1
