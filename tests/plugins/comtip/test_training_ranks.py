"""CoMTIP's step shared by two ranks: the same losses as one rank's, every part of the objective, copied or sharded."""

from __future__ import annotations

import csv
import socket
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from comtip_training_run import CASES, rank, train


@pytest.fixture(scope="module")
def by_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(rank, args=(port, folder), nprocs=2)
    return folder


def losses(folder: Path) -> list[dict[str, float]]:
    with (folder / "log.csv").open() as file:
        return [{k: float(v) for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_give_the_losses_of_one(case: str, by_two: Path, tmp_path: Path) -> None:
    task = train(case, tmp_path)
    for want, got in zip(losses(tmp_path), losses(by_two / "two" / case), strict=True):
        assert got == pytest.approx(want, abs=1e-4, rel=1e-4)
    averaged = torch.load(by_two / f"{case}.pt", weights_only=True)
    for name, tensor in task.gather_average().items():
        torch.testing.assert_close(averaged[name], tensor, atol=2e-3, rtol=1e-2)
