"""Matches: which spots of a fixed section stand for which spots of a moving one, softly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, diags_array
from stzoo.core.arrays import Doubles
from stzoo.core.errors import DataError

_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class Matches:
    """A transport plan between the spots of two sections (soft correspondences).

    Every spot of a section of n spots weighs 1/n, so that a section weighs 1; a plan moves some or all of that.

    Parameters
    ----------
    plan
        Sparse float64 (n_moving, n_fixed), not negative; the sum of its entries is the share of mass that is
        matched, at most 1.
    """

    plan: csr_array

    def __post_init__(self) -> None:
        """Refuse a plan that moves no mass, or mass that is not there."""
        make: Any = csr_array  # its stubs have no copy of an array
        plan: Any = make(self.plan, dtype=np.float64, copy=True)
        if plan.ndim != 2 or 0 in plan.shape:
            raise DataError(f"matches of shape {plan.shape}, expected (moving spots, fixed spots)")
        plan.sum_duplicates()
        plan.eliminate_zeros()
        if not np.isfinite(plan.data).all() or (plan.data < 0).any():
            raise DataError("matches hold weights that are negative or not finite")
        if plan.sum() > 1 + _ROUNDING:
            raise DataError(
                f"matches weigh {plan.sum():.4g}, at most 1 is there to be matched",
                todo="divide row-normalised weights by the number of moving spots",
            )
        for part in (plan.data, plan.indices, plan.indptr):
            part.flags.writeable = False
        object.__setattr__(self, "plan", plan)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of moving and of fixed spots."""
        rows, columns = self.plan.shape
        return int(rows), int(columns)

    @property
    def share(self) -> float:
        """The share of mass that is matched, 0 to 1."""
        return float(self.plan.sum())

    def transfer(self, values: npt.ArrayLike) -> Doubles:
        """Carry values of the fixed section to the moving spots: the mean over a spot's matches, by weight.

        Parameters
        ----------
        values
            (n_fixed, g); entries that are NaN (hidden) are left out of the means.

        Returns
        -------
        float64 (n_moving, g), NaN where a spot has no match with a value.
        """
        values = np.asarray(values, dtype=np.float64)
        if values.ndim != 2 or len(values) != self.shape[1]:
            raise DataError(f"values of shape {values.shape} for {self.shape[1]} fixed spots, expected (spots, genes)")
        known = np.isfinite(values)
        total = np.asarray(self.plan @ np.where(known, values, 0.0))
        weight = np.asarray(self.plan @ known.astype(np.float64))
        mean: Doubles = np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)
        return mean

    def transpose(self) -> Matches:
        """Return the same matches with the roles of the sections swapped."""
        return Matches(self.plan.T.tocsr())

    def then(self, after: Matches) -> Matches:
        """Return the matches of this plan's moving spots with the fixed spots of ``after``.

        The mass that reaches a spot of the middle section goes on as that spot's mass does in ``after`` (a product of
        plans, over the mass of the middle spot); what ``after`` does not match is lost. Where a plan lays more upon a
        spot than it weighs, the spot counts for that much, so that mass never grows.

        Raises
        ------
        DataError
            The sections in the middle have different numbers of spots.
        """
        middle = self.shape[1]
        if middle != after.shape[0]:
            raise DataError(f"matches onto {middle} spots can not go on from {after.shape[0]} spots")
        held = np.maximum(np.asarray(self.plan.sum(axis=0)), np.asarray(after.plan.sum(axis=1)))
        scale: Any = diags_array(1 / np.maximum(held, 1 / middle))
        return Matches(csr_array(self.plan @ scale @ after.plan))
