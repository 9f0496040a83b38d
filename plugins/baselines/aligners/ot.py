"""Alignment by expression, for sections without images: a search over all turns, then partial optimal transport.

What is whose. Fused Gromov-Wasserstein (Vayer, Titouan et al. 2019) for sections, and a plan turned into a rigid
transform by weighted Procrustes: PASTE (Zeira et al. 2022, doi:10.1038/s41592-022-01459-6). Partial overlap: PASTE2
(Liu et al. 2023, doi:10.1101/gr.277670.123). The solver: POT (Flamary et al. 2021). Ours: components, the search over
all turns and both sides, thinning by groups, and the last refinement. On the real pairs of ``benchmarks/aligners.py``
search and refinement find the transform; the plan adds the soft matches, and a start of its own for the refinement.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array, csr_array
from stzoo import Aligner, ConfigError, Progress, Section, Transform
from stzoo.core.arrays import Indices
from stzoo.core.geometry.matches import Matches
from stzoo.plugins.baselines.aligners._ot_features import Cloud, find_usable, make_clouds
from stzoo.plugins.baselines.aligners._ot_plan import (
    SpotGroups,
    check_memory,
    fit_procrustes,
    import_solver,
    lift,
    match_groups,
    thin,
)
from stzoo.plugins.baselines.aligners._ot_search import (
    Map,
    ScoredTransform,
    make_fine_map,
    measure_spacing,
    refine,
    search,
    select_distinct,
)

TRIED, APART_DEG = 3, 20.0
"""Directions that are refined, and how far apart they are at least, degrees."""
SURE = 0.98
"""Share of the overlap that is matched: its border is never known to the spot."""


@dataclass
class OTConfig:
    """Options of :class:`OT`.

    Parameters
    ----------
    genes, components
        Most genes that are compared, and most components of their expression.
    alpha
        Weight of distances within the sections against expression in the plan, 0 to 1.
    step_deg
        Distance between the turns that are searched, degrees.
    flips
        Try the mirror image of the moving section too.
    overlap
        Smallest share of the smaller tissue that both sections are expected to show.
    spots
        Most spots of a section in the plan; more are joined with their neighbours, and the plan is lifted back.
    memory_gib
        Most memory that the plan may take, GiB; it is estimated before any is taken.
    """

    genes: int = 1000
    components: int = 6
    alpha: float = 0.9
    step_deg: float = 6.0
    flips: bool = True
    overlap: float = 0.3
    spots: int = 400
    memory_gib: float = 4.0

    def __post_init__(self) -> None:
        """Refuse numbers without a meaning."""
        for key, valid, expected in (
            ("genes", self.genes >= 10, "at least 10"),
            ("components", self.components >= 2, "at least 2"),
            ("alpha", 0 < self.alpha < 1, "between 0 and 1"),
            ("step_deg", 0 < self.step_deg <= 30, "above 0, at most 30"),
            ("overlap", 0.1 <= self.overlap <= 1, "0.1 to 1"),
            ("spots", self.spots >= 20, "at least 20"),
            ("memory_gib", self.memory_gib > 0, "above 0"),
        ):
            if not valid:
                raise ConfigError(f"{key} is {getattr(self, key)}, expected {expected}", where="config of 'ot'")


class OT(Aligner):
    """Lays expression upon expression: rigid, mirrored where that fits better, with soft matches of the spots.

    Measured spots alone are read, and no image; the sections may overlap in part.
    """

    name = "ot"
    config_class = OTConfig
    config: OTConfig

    def align(self, moving: Section, fixed: Section, *, progress: Progress | None = None) -> Transform:
        """Return the transform from micrometres of ``moving`` to micrometres of ``fixed``, with matches.

        Raises
        ------
        PluginError
            POT is not installed.
        GeneError
            The sections share fewer than 10 genes that are seen in both.
        DataError
            A section has fewer than 20 measured spots with counts, or the plan needs more memory than allowed.
        UnitsError
            A section has no µm/px.
        """
        import_solver()
        config, tell = self.config, progress or (lambda done, total: None)
        spots = find_usable(moving), find_usable(fixed)
        check_memory(min(len(spots[0]), config.spots), min(len(spots[1]), config.spots), config.memory_gib)
        pair = make_clouds(moving, fixed, genes=config.genes, components=config.components)
        tell(1, 4)
        found = search(*pair, step_deg=config.step_deg, flips=config.flips, overlap=config.overlap)
        tell(2, 4)
        best, maps = self._refine(pair, found)
        tell(3, 4)
        best, matches = self._match(pair, maps, best)
        whole = _extend_to_all(matches, spots, (len(moving), len(fixed)))
        tell(4, 4)
        return Transform(best.matrix, matches=Matches(whole))

    def _refine(
        self, pair: tuple[Cloud, Cloud], found: list[ScoredTransform]
    ) -> tuple[ScoredTransform, tuple[Map, Map]]:
        """Refine the best few directions, and keep the one under which expression agrees best."""
        maps, gap = (make_fine_map(pair[0]), make_fine_map(pair[1])), measure_spacing(pair[1])
        starts = select_distinct(found, TRIED, apart_deg=APART_DEG)
        refined = [refine(pair[0], maps[1], start.matrix, reach=2 * gap) for start in starts]
        return max(refined, key=lambda one: one.score), maps

    def _match(
        self, pair: tuple[Cloud, Cloud], maps: tuple[Map, Map], best: ScoredTransform
    ) -> tuple[ScoredTransform, csr_array]:
        """Match the spots, let the plan propose a transform, and keep that where expression agrees better."""
        gap, areas = measure_spacing(pair[1]), (maps[0].area, maps[1].area)
        groups: tuple[SpotGroups, SpotGroups] = (thin(pair[0], self.config.spots), thin(pair[1], self.config.spots))
        common = min(1.0, best.share * areas[0] / min(areas))
        weights = match_groups(*groups, best.matrix, areas=areas, share=SURE * common, alpha=self.config.alpha)
        side = float(np.sign(np.linalg.det(best.matrix[:, :2])))
        proposed = fit_procrustes(groups[0].points, groups[1].points, weights, side=side)
        best = max(best, refine(pair[0], maps[1], proposed, reach=gap), key=lambda one: one.score)
        moved = Transform(best.matrix).apply(pair[0].points)
        most = max(areas)
        # from units of the larger tissue to those of Matches, where each section weighs 1: neither gives or gets more
        lifted = lift(weights, groups, (moved, pair[1].points), width=gap / 2)
        return best, csr_array(lifted * min(most / area for area in areas))


def _extend_to_all(matches: csr_array, spots: tuple[Indices, Indices], shape: tuple[int, int]) -> csr_array:
    """Return the matches of the spots that were compared as matches of all spots; the others have none."""
    share = min(len(spots[0]) / shape[0], len(spots[1]) / shape[1])
    entries = coo_array(matches)
    rows, columns = entries.coords
    return csr_array((entries.data * share, (spots[0][rows], spots[1][columns])), shape=shape)
