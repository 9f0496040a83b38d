"""Trainings of CoMTIP with held-out sections, for test_validation.py; spawned ranks import it by its name."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from stzoo.core.data.section import Section
from stzoo.core.io.synthetic import synthetic_section
from stzoo.core.runtime.ranks import ALONE, Ranks, join_ranks
from stzoo.plugins.comtip.model import CoMTIP

TRAIN = {
    **{"steps": 6, "batch": 20, "genes": 8, "ranked_genes": 8, "views": 2, "warmup": 1, "max_genes": 12},
    **{"neighbours": True, "validate_every": 2, "checkpoint_every": 3, "learning_rate": 3e-3},
}
CONFIG: dict[str, Any] = {
    "embedding_dim": 16,
    "context_um": [200.0],
    "vision": {"tile_px": 64, "width": 24, "depth": 1, "heads": 2, "context_um": [200.0], "poses": False},
    "text": {"width": 16, "depth": 1, "heads": 2, "pieces": 60},
    "objective": {"ranking": 5.0, "correlation": 5.0},
}


def tissue(seed: int) -> Section:
    return replace(synthetic_section(side_um=1000, pitch_um=100, seed=seed, name=f"s{seed}"), source=f"s{seed}")


def train(out: Path, learned: list[Section], held: list[Section], *, ranks: Ranks = ALONE, **changes: Any) -> CoMTIP:
    resume = changes.pop("resume", False)
    model = CoMTIP({**CONFIG, "train": {**TRAIN, **changes}}, seed=3)
    model.train(learned, out=out, validation=held, resume=resume, progress=False, ranks=ranks)
    return model


def rank(number: int, port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(number), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with join_ranks() as ranks:
        for name, above in (("copied", 10**9), ("sharded", 0)):
            train(folder / name, [tissue(0)], [tissue(1)], ranks=ranks, steps=2, validate_every=1, shard_above=above)
