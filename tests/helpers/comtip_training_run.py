"""The step of CoMTIP that test_training_ranks.py takes alone and by two ranks; spawned, they import it by its name."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from stzoo.core import config as configs
from stzoo.core.runtime.ranks import ALONE, Ranks, join_ranks
from stzoo.core.training.loop import fit
from stzoo.plugins.comtip.config import CoMTIPConfig
from stzoo.plugins.comtip.data import TrainingData
from stzoo.plugins.comtip.image_tower import N_STATISTICS
from stzoo.plugins.comtip.network import CoMTIPNetwork
from stzoo.plugins.comtip.training import CoMTIPTask
from stzoo.plugins.comtip.vocabulary import Vocabulary

GENES = [f"GENE{number}" for number in range(9)]
TRAIN = {"steps": 20, "batch": 11, "warmup": 2, "genes": 6, "fewest_genes": 3, "ranked_genes": 7}
BASE = {
    "embedding_dim": 8,
    "vision": {"tile_px": 64, "width": 12, "depth": 1, "heads": 2},
    "text": {"width": 8, "depth": 1, "heads": 2, "pieces": 40},
    "train": TRAIN,
}
PLUS = {
    **BASE,
    "vision": {**BASE["vision"], "context_um": [200.0]},
    "objective": {"ranking": 2.0, "correlation": 2.0, "mfm": 0.1, "mfm_spots": 0.5, "paat": "critic", "pair": 0.1},
    "train": {**TRAIN, "neighbours": True, "forget": 0.2, "mixup": 0.4},
}
PAPER = {
    **BASE,
    "vision": {**BASE["vision"], "stem": "linear", "clip": True, "skip": False, "poses": False},
    "text": {**BASE["text"], "kind": "sentences", "values": "affine", "pool": "mean"},
    "objective": {"mfm": 1.0, "paat": "paper", "pair": 0.5, "ranking": 0.0, "soft_targets": 0.0},
}
CASES = {
    "plus": PLUS,
    "plus-sharded": {**PLUS, "train": {**PLUS["train"], "shard_above": 0}},
    "paper-sharded": {**PAPER, "train": {**TRAIN, "shard_above": 0}},
    "negative": {**BASE, "objective": {"paat": "negative"}},
    "pairs": {**BASE, "objective": {"paat": "pairs"}},
}


def train(case: str, folder: Path, ranks: Ranks = ALONE) -> CoMTIPTask:
    config = configs.build(CoMTIPConfig, CASES[case])
    torch.set_num_threads(1)
    torch.manual_seed(0)
    vocabulary = Vocabulary(GENES, config.text)
    network = CoMTIPNetwork(config, len(GENES), vocabulary.n_tokens, vocabulary.n_described, vocabulary.suffix)
    pixels = config.vision.stem.value == "linear"
    inputs = torch.randn(2, 24, 3, 64, 64) if pixels else torch.randn(2, 24, 4, N_STATISTICS)
    data = TrainingData(
        inputs, torch.rand(24, 9) * 4, torch.randn(24, 5), torch.rand(24, 2) * 900, torch.arange(24) // 12
    )
    task = CoMTIPTask(network, data, vocabulary.inputs(GENES), config, ranks=ranks)
    fit(task, out=folder, steps=4, seed=3, progress=False, ranks=ranks, sharded=task.blocks())
    return task


def rank(number: int, port: int, folder: Path) -> None:
    os.environ |= {"RANK": str(number), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with join_ranks() as ranks:
        for case in CASES:
            averaged = train(case, folder / "two" / case, ranks).gather_average()
            if ranks.is_main:
                torch.save(averaged, folder / f"{case}.pt")
