"""TensorBoard, through torch's writer (extra: ``stzoo[tensorboard]``)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter


class TensorBoard:
    """Scalars and the configuration, in ``OUT/tensorboard``."""

    def __init__(self) -> None:
        self._folder, self._config = Path(), ""
        self._writer: SummaryWriter | None = None

    def start(self, out: Path, config: Mapping[str, Any]) -> None:
        """Remember where; the writer is made with the first metrics, whose step a resumed run starts over from."""
        self._folder, self._config = out / "tensorboard", json.dumps(config, indent=1)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write one scalar a metric."""
        if self._writer is None:
            self._writer = SummaryWriter(self._folder, purge_step=step)
            self._writer.add_text("config", f"```\n{self._config}\n```", step)
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush."""
        if self._writer is not None:
            self._writer.close()
