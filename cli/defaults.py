"""What commands use where nobody says otherwise: the one place that names shipped methods and weights."""

from __future__ import annotations

WEIGHTS = "comtip-tiny"
"""Weights of ``predict``, ``embed``, ``query`` and ``demo``."""
IMPUTER = "kriging"
ALIGNER = "rigid"
