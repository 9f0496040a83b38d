"""Type aliases of arrays. Shapes are given in the docstring of the function that takes or returns one."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
"""Any dtype."""
Floats = npt.NDArray[np.float32]
"""Expression, embeddings, confidence: float32."""
Doubles = npt.NDArray[np.float64]
"""Intermediate results of computations: float64."""
Points = npt.NDArray[np.float64]
"""Positions, float64 (n, 2), x before y; micrometres or pixels."""
Mask = npt.NDArray[np.bool_]
"""A boolean mask, usually over spots."""
Indices = npt.NDArray[np.intp]
"""Indices of rows, columns or groups."""
Pixels = npt.NDArray[np.uint8]
"""An image, uint8 (height, width) or (height, width, 3)."""
