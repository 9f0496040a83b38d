"""Scores: correlation, errors, maps, retrieval, reliability, calibration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stzoo.core.runtime.public import offer

if TYPE_CHECKING:
    from stzoo.core.metrics.calibration import Calibration as Calibration
    from stzoo.core.metrics.confidence import reliability as reliability
    from stzoo.core.metrics.correlation import concatenated_pcc as concatenated_pcc
    from stzoo.core.metrics.correlation import is_constant as is_constant
    from stzoo.core.metrics.correlation import per_gene_pcc as per_gene_pcc
    from stzoo.core.metrics.maps import masked_ssim as masked_ssim
    from stzoo.core.metrics.maps import to_grid as to_grid
    from stzoo.core.metrics.retrieval import partner_ranks as partner_ranks
    from stzoo.core.metrics.streaming import RunningPCC as RunningPCC
    from stzoo.core.metrics.summary import mean_pcc as mean_pcc
    from stzoo.core.metrics.summary import summarise as summarise

_HOMES = {
    "Calibration": "calibration",
    "RunningPCC": "streaming",
    "concatenated_pcc": "correlation",
    "is_constant": "correlation",
    "masked_ssim": "maps",
    "mean_pcc": "summary",
    "partner_ranks": "retrieval",
    "per_gene_pcc": "correlation",
    "reliability": "confidence",
    "summarise": "summary",
    "to_grid": "maps",
}

__all__ = sorted(_HOMES)
__getattr__ = offer(__name__, _HOMES)
