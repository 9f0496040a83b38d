"""Fine-tuning of CoMTIP shared by two ranks: the losses of one, and one result on disk."""

from __future__ import annotations

import csv
import socket
from pathlib import Path

import pytest
import torch.multiprocessing as mp
from comtip_tuned_run import CONFIG, rank, tissue, tune
from stzoo.plugins.comtip.model import CoMTIP


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
