"""Several ranks: the same metrics as one, one that is lost, a stop that all agree on."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import ranked_run
import torch
from ranked_run import run
from safetensors.torch import load_file
from stzoo.core.errors import ConfigError
from stzoo.core.runtime.ranks import ALONE, Ranks

SCRIPT = Path(ranked_run.__file__)


def launch(*arguments, world=2):
    """Start the ranks of a run; return exit codes and what they wrote to standard error."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, SCRIPT, *map(str, arguments)],
            env={**os.environ, **environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    said = [process.communicate(timeout=240)[1] for process in started]
    return [process.returncode for process in started], said


def rows(file):
    with file.open() as lines:
        return [{k: float(v) for k, v in row.items() if k != "seconds"} for row in csv.DictReader(lines)]


def state(out, step):
    return load_file(out / "checkpoints" / f"{step:08d}" / "state.safetensors")


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [5, 17, 30])
def test_shares_are_all_of_the_rows_and_their_weights_make_the_mean(world, count):
    ranks = [Ranks(rank, world) for rank in range(world)]
    assert [row for one in ranks for row in range(count)[one.share(count)]] == list(range(count))
    mean = sum(one.weight(count) * torch.arange(float(count))[one.share(count)].mean() for one in ranks) / world
    assert float(mean) == pytest.approx((count - 1) / 2)


def test_fewer_rows_than_ranks_are_refused():
    with pytest.raises(ConfigError, match="2 rows are too few for 3 ranks"):
        Ranks(0, 3).share(2)


def test_one_process_needs_nobody():
    assert ALONE.mean({"a": 2.0}) == {"a": 2.0}
    assert ALONE.broadcast("x") == "x"
    assert not ALONE.any(False)


@pytest.fixture(scope="module")
def by_two(tmp_path_factory):
    """Folder of whole runs of two ranks: ``ddp`` and ``fsdp``."""
    folder = tmp_path_factory.mktemp("two")
    codes, said = launch(folder, 10, "ddp+fsdp")
    assert codes == [0, 0], said
    return folder


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [0, 1, 4, 17])
def test_jobs_are_dealt_out_once(world, count):
    assert [job for rank in range(world) for job in Ranks(rank, world).my_jobs(count)] == list(range(count))


def test_two_ranks_give_the_figures_of_one_copied_and_sharded(tmp_path, by_two):
    shutil.copytree(by_two, tmp_path, dirs_exist_ok=True)
    run(tmp_path / "alone", 10)
    for mode in ("ddp", "fsdp"):
        for file in ("log.csv", "validation.csv"):
            want, got = rows(tmp_path / "alone" / file), rows(tmp_path / mode / file)
            for one, other in zip(want, got, strict=True):
                assert other == pytest.approx(one, abs=1e-5, rel=1e-5), mode
        assert not list((tmp_path / mode).rglob(".*"))
        whole = state(tmp_path / mode, 10)
        for name, tensor in state(tmp_path / "alone", 10).items():
            assert whole[name].shape == tensor.shape
            torch.testing.assert_close(whole[name], tensor, atol=1e-4, rtol=1e-3)
        resumed, done = run(tmp_path / mode, 12)  # on another number of ranks
        assert done.steps == 12
        assert all(p.isfinite().all() for p in resumed.module().parameters())


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kill -9 is of POSIX")
def test_a_lost_rank_ends_the_run_with_a_checkpoint_that_resumes_bit_for_bit(tmp_path, by_two):
    (survivor, killed), said = launch(tmp_path, 10, "fsdp", "--die", 6)
    assert killed == -signal.SIGKILL
    assert survivor == 1
    assert "LostRankError: another rank is gone" in said[0]
    assert [p.name for p in (tmp_path / "fsdp" / "checkpoints").iterdir()] == ["00000004"]
    assert launch(tmp_path, 10, "fsdp")[0] == [0, 0]
    parts, whole = (state(folder / "fsdp", 10) for folder in (tmp_path, by_two))
    assert parts.keys() == whole.keys()
    assert all(torch.equal(parts[name], whole[name]) for name in whole)
    for file in ("log.csv", "validation.csv"):
        assert rows(tmp_path / "fsdp" / file) == rows(by_two / "fsdp" / file)


def test_all_ranks_stop_after_the_same_step(tmp_path):
    codes, said = launch(tmp_path, 10, "ddp", "--stop", 5)
    assert codes == [1, 1]
    assert all("Interrupted: stopped after step 6 of 10" in one for one in said), said
    assert sorted(p.name for p in (tmp_path / "ddp" / "checkpoints").iterdir()) == ["00000004", "00000006"]
