"""A small CoMTIP and sections to tune it on, alone or as one of two ranks; spawned ranks import it by its name."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from stzoo.core.data.section import Section
from stzoo.core.finetuning.settings import read_settings
from stzoo.core.io.synthetic import synthetic_section
from stzoo.core.runtime.ranks import ALONE, Ranks, join_ranks
from stzoo.plugins.comtip.model import CoMTIP
from stzoo.zoo.finetuning import FineTuned, finetune

CONFIG: dict[str, Any] = {
    "embedding_dim": 16,
    "context_um": [200.0],
    "vision": {"tile_px": 64, "width": 24, "depth": 1, "heads": 2, "context_um": [200.0], "poses": False},
    "text": {"width": 16, "depth": 1, "heads": 2, "pieces": 60},
    "train": {
        **{"steps": 4, "batch": 200, "genes": 8, "ranked_genes": 8, "views": 1, "warmup": 1},
        **{"neighbours": True, "jitter": 0.0, "max_genes": 20},
    },
}


def tissue(seed: int) -> Section:
    section = synthetic_section(side_um=1000, pitch_um=100, seed=seed, name=f"s{seed}")
    return replace(section, source=f"s{seed}")


def tune(base: Path, out: Path, ranks: Ranks = ALONE) -> FineTuned:
    torch.set_num_threads(1)
    settings = read_settings("full", True, ["rates.steps=4", "validations=2", "rates.warmup=1", "rates.batch=61"])
    own, test = [tissue(0), tissue(1)], [tissue(2)]
    return finetune(CoMTIP.load(base), own, test=test, out=out, settings=settings, progress=False, ranks=ranks)


def rank(number: int, port: int, base: Path, folder: Path) -> None:
    os.environ |= {"RANK": str(number), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with join_ranks() as ranks:
        tune(base, folder / "two", ranks)
