"""The log of a run: every step once, whatever was cut short."""

from __future__ import annotations

import pytest
from stzoo.core.training.log import read_log, training_log


def steps(path):
    return [int(row["step"]) for row in read_log(path)]


def write(path, start, stop, **options):
    with training_log(path, start, **options) as log:
        for step in range(start, stop):
            log({"step": step, "loss": 1 / (step + 1)})


@pytest.mark.parametrize("start", [0, 3, 5])
def test_a_resumed_run_has_no_row_twice(tmp_path, start):
    path = tmp_path / "log.csv"
    write(path, 0, 5)
    write(path, start, 8)
    assert steps(path) == list(range(8))
    assert float(read_log(path)[7]["loss"]) == 1 / 8


def test_a_row_cut_by_a_kill_is_no_row_and_does_not_stand_in_the_way(tmp_path):
    path = tmp_path / "log.csv"
    write(path, 0, 4)
    path.write_bytes(path.read_bytes()[: path.read_bytes().rindex(b"3,") + 1])
    assert steps(path) == [0, 1, 2]
    write(path, 3, 6)
    assert steps(path) == list(range(6))


def test_there_is_no_log_before_the_first_row_and_none_of_another_rank(tmp_path):
    write(tmp_path / "none.csv", 0, 0)
    write(tmp_path / "other.csv", 0, 4, active=False)
    assert list(tmp_path.iterdir()) == []
    assert read_log(tmp_path / "none.csv") == []


def test_rows_are_on_disk_while_the_run_goes_on(tmp_path):
    path = tmp_path / "log.csv"
    with training_log(path, 0) as log:
        log({"step": 0, "loss": 0.5})
        assert steps(path) == [0]
