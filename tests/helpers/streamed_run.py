"""Run by torchrun in tests: predict and embed a drawn section with two ranks, one of which may go away."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from stzoo.core.arrays import Floats
from stzoo.core.data.section import Section
from stzoo.core.errors import StzooError
from stzoo.core.io.synthetic import synthetic_section
from stzoo.core.registry import model
from stzoo.core.runtime import blocks
from stzoo.core.runtime.blocks import BlockShare
from stzoo.core.runtime.outputs import quick_to_stop
from stzoo.core.runtime.ranks import join_ranks
from stzoo.core.workflows.embed import embed
from stzoo.core.workflows.predict import predict
from stzoo.plugins.baselines.encoders.colour_texture import ColourTexture

GENES = ["ERBB2", "COL1A1", "CD74"]
SMALL = {"tile_px": 32, "context_um": [150.0]}


def drawn() -> Section:
    """A section of 121 spots."""
    return synthetic_section(side_um=480, pitch_um=40.0, seed=1)


class Leaving(ColourTexture):
    """Its second process goes away in the middle of its share."""

    how = ""

    def embed_blocks(
        self, section: Section, share: BlockShare | None = None, **options: Any
    ) -> Iterator[tuple[slice, Floats]]:
        """Raise, or die, in the second process only."""
        for block in super().embed_blocks(section, share, **options):
            if os.environ["RANK"] == "1":
                if self.how == "raise":
                    raise ValueError("a fault of the model")
                os.kill(os.getpid(), signal.SIGKILL)
            yield block


def fitted(encoder: ColourTexture) -> ColourTexture:
    """Return the encoder with a ridge head."""
    encoder.fitted_heads["ridge"] = model("colour-texture", SMALL).fit([drawn()], GENES).fitted_heads["ridge"]
    return encoder


def main(how: str, folder: Path) -> None:
    """Predict and embed (``whole``), or lose the second rank (``raise``, ``kill``)."""
    blocks.BLOCK = 50  # so that a small section has several
    with quick_to_stop(), join_ranks() as ranks:
        if how == "whole":
            done = predict(fitted(ColourTexture(SMALL)), drawn(), out=folder / "predicted.zarr", ranks=ranks)
            embed(ColourTexture(SMALL), drawn(), out=folder / "embedded.zarr", ranks=ranks)
            if ranks.is_main:
                np.save(folder / "pcc.npy", done.pcc)
            return
        leaving = Leaving(SMALL)
        leaving.how = how
        try:
            predict(fitted(leaving), drawn(), out=folder / "predicted.zarr", ranks=ranks)
        except StzooError as error:
            (folder / f"rank{ranks.rank}.txt").write_text(str(error), encoding="utf-8")
            raise


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
