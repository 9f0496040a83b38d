"""Run by torchrun in tests, and without it: impute drawn sections and a stack into zarr, every imputer that is shipped.

With ``lose`` the second rank dies in the middle of its share.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from stzoo.core.arrays import Floats
from stzoo.core.data.section import Section, Stack
from stzoo.core.gp import fitting
from stzoo.core.imputer import Filled, FilledPart, Imputer
from stzoo.core.io.synthetic import synthetic_section
from stzoo.core.registry import model
from stzoo.core.runtime import blocks
from stzoo.core.runtime.outputs import quick_to_stop
from stzoo.core.runtime.ranks import ALONE, Ranks, join_ranks
from stzoo.core.workflows.impute import impute
from stzoo.core.workflows.impute_stack import impute_stack
from stzoo.plugins.baselines.imputers import interpolate
from stzoo.plugins.baselines.imputers.knn import Knn

GENES = ["ERBB2", "COL1A1", "CD74", "KRT18", "VIM", "ACTB", "SPARC", "B2M"]
CDCIN = {
    "network": {"cascades": 1, "channels": 4, "blocks": 1, "layers": 1, "mask_channel": True},
    "train": {"iterations": 2, "batch": 2, "window": 16, "frugal": False},
    "inference": {"step": 8},
}
LEARN = {"start": "none", "refined": {"steps": 2, "batch": 4}}
ST_DAI = {
    "encoder": "none",
    "pseudo": {"components": 4},
    "network": {"width": 16, "depth": 2, "steps": 10, "batch": 32},
    "refine": {"steps": 5},
}
SECTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "gene-mean": ("gene-mean", {}),
    "nearest": ("nearest", {}),
    "bilinear": ("bilinear", {}),
    "bicubic": ("bicubic", {}),
    "knn": ("knn", {}),
    "smooth": ("smooth", {}),
    "kriging": ("kriging", {}),
    "kriging-blocks": ("kriging", {"exact": 20, "neighbourhood": 30}),
    "s2s-st": ("s2s-st", LEARN),
    "cdcin": ("s2s-st", {"variant": "cdcin", "cdcin": CDCIN}),
    "cdcin-shared": ("s2s-st", {"variant": "cdcin", "mode": "shared", "cdcin": CDCIN}),
}
STACKS: dict[str, tuple[str, dict[str, Any]]] = {
    "stack-kriging": ("kriging", {"encoder": "colour-texture"}),
    "stack-transfer": ("transfer", {"own": 0.5, "offset": True}),
    "stack-s2s-st": ("s2s-st", LEARN),
    "stack-st-dai": ("st-dai", ST_DAI),
}


class Whole(Imputer):
    """Knows how to fill whole sections, and nothing of parts."""

    name = "whole"
    config_class = dict

    def __init__(self) -> None:
        self.config, self.seed, self.device = {}, 0, "cpu"

    def fill(self, stack: Stack, values: Sequence[Floats], *, progress: Any = None) -> list[Filled]:
        return [Filled(np.nan_to_num(v, nan=2.0), np.full_like(v, 0.5)) for v in values]


class Leaving(Knn):
    """Its second process dies in the middle of its share."""

    def fill_parts(self, *args: Any, **options: Any) -> Iterator[FilledPart]:
        for part in super().fill_parts(*args, **options):
            if os.environ.get("RANK") == "1":
                os.kill(os.getpid(), signal.SIGKILL)
            yield part


def drawn(seed: int = 1, pitch_um: float = 40.0) -> Section:
    """A section of 196 spots."""
    return synthetic_section(side_um=600, pitch_um=pitch_um, seed=seed, name=f"s{seed}")


def stack() -> Stack:
    """Three sections of 81 spots, the second one whole."""
    sections = [drawn(seed, 60.0) for seed in (1, 2, 3)]
    for number in (0, 2):
        obs = sections[number].adata.obs
        obs["measured"] = (obs["array_row"] % 2 == 0) & (obs["array_col"] % 2 == 0)
    return Stack(tuple(sections))


def small() -> None:
    """Cut the work so small that every process has several parts."""
    blocks.BLOCK, fitting.ROWS, interpolate.GENES = 50, 40, 3


def main(how: str, folder: Path) -> None:
    """Impute by all (``whole``), or lose the second rank (``lose``)."""
    small()
    with quick_to_stop(), join_ranks() as ranks:
        if how == "lose":
            impute(Leaving(), drawn(), out=folder / "lost.zarr", rule="grid:2", ranks=ranks)
            return
        for name, (method, config) in SECTIONS.items():
            write(folder / f"{name}.zarr", model(method, config), ranks)
        write(folder / "default.zarr", Whole(), ranks)
        for name, (method, config) in STACKS.items():
            aligner = model("rigid") if name == "stack-transfer" else None
            impute_stack(model(method, config), stack(), out=folder / name, aligner=aligner, genes=GENES, ranks=ranks)


def write(out: Path, imputer: Imputer, ranks: Ranks = ALONE) -> None:
    """Impute a section; what is said of it stands beside."""
    done = impute(imputer, drawn(), out=out, rule="grid:2", genes=GENES, ranks=ranks)
    if ranks.is_main:
        out.with_suffix(".txt").write_text("\n".join(done.lines()), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
