"""The names of arrays, by what is in them. Shapes stand in the docstring of whoever takes or returns one."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
"""Any dtype."""
Floats = npt.NDArray[np.float32]
"""Expression, embeddings, confidence: float32."""
Doubles = npt.NDArray[np.float64]
"""What is computed with: float64."""
Points = npt.NDArray[np.float64]
"""Positions, float64 (n, 2), x before y; micrometres or pixels."""
Mask = npt.NDArray[np.bool_]
"""Which of n things are meant: bool."""
Indices = npt.NDArray[np.intp]
"""Rows, columns or groups by number."""
Pixels = npt.NDArray[np.uint8]
"""An image, uint8 (height, width) or (height, width, 3)."""
