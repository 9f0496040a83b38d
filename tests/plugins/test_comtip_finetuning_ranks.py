"""Fine-tuning of CoMTIP shared by two ranks: the losses of one, and one result on disk."""

from __future__ import annotations

import csv
import os
import socket
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from stzoo.core.finetuning.run import FineTuned, finetune
from stzoo.core.finetuning.settings import read_settings
from stzoo.core.runtime.ranks import ALONE, Ranks, joined
from stzoo.plugins.comtip.model import CoMTIP
from test_comtip_finetuning import CONFIG, tissue


def tune(base: Path, out: Path, ranks: Ranks = ALONE) -> FineTuned:
    torch.set_num_threads(1)
    settings = read_settings("full", True, ["rates.steps=4", "validations=2", "rates.warmup=1", "rates.batch=61"])
    own, test = [tissue(0), tissue(1)], [tissue(2)]
    return finetune(CoMTIP.load(base), own, test=test, out=out, settings=settings, progress=False, ranks=ranks)


def rank(number: int, port: int, base: Path, folder: Path) -> None:
    os.environ |= {"RANK": str(number), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with joined() as ranks:
        tune(base, folder / "two", ranks)


def rows(file: Path) -> list[dict[str, float]]:
    with file.open() as lines:
        return [{k: float(v) for k, v in row.items() if k != "seconds"} for row in csv.DictReader(lines)]


@pytest.mark.slow
def test_two_ranks_tune_as_one_does(tmp_path: Path) -> None:
    model = CoMTIP(CONFIG)
    model.train([tissue(7)], out=tmp_path / "base-run", progress=False)
    base = model.save(tmp_path / "base")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(rank, args=(port, base, tmp_path), nprocs=2)
    one, two = tune(base, tmp_path / "one"), tmp_path / "two"
    for name in ("log.csv", "validation.csv"):
        for want, got in zip(rows(one.out / "run" / name), rows(two / "run" / name), strict=True):
            assert got == pytest.approx(want, abs=1e-4, rel=1e-3)
    assert {file.name for file in two.iterdir()} == {file.name for file in one.out.iterdir()}
    CoMTIP.load(two / "weights")
