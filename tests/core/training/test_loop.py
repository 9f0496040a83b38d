"""The training loop: what it writes, what it refuses, and that stopping it changes nothing."""

from __future__ import annotations

import csv
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import resumable_run
import torch
from resumable_run import Toy, run
from stzoo.core.errors import ConfigError, OutputError, UsageError, WeightsError
from stzoo.core.training.loop import Interrupted, TrainingError, fit

SCRIPT = Path(resumable_run.__file__)


def rows(out):
    with (out / "log.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def bit_equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def checkpoints(out):
    return sorted(p.name for p in (out / "checkpoints").glob("[0-9]*"))


class Hooked(Toy):
    """A toy that calls ``hook(step)`` before it computes losses, and may change them."""

    def __init__(self, hook):
        super().__init__()
        self.hook = hook

    def losses(self, step, generator):
        losses = super().losses(step, generator)
        return self.hook(step, losses) or losses


def test_trains_logs_and_keeps_two_checkpoints(tmp_path):
    task = Toy()
    losses = fit(task, out=tmp_path, steps=20, seed=3, checkpoint_every=4).losses
    log = rows(tmp_path)
    assert [int(row["step"]) for row in log] == list(range(20))
    assert list(log[0]) == ["step", "loss", "absolute", "gradient_norm", "learning_rate"]
    assert float(log[-1]["loss"]) == losses["loss"] < float(log[0]["loss"])
    assert float(log[5]["learning_rate"]) == 0.75
    assert checkpoints(tmp_path) == ["00000016", "00000020"]
    assert [group["lr"] for group in task.optimizer().param_groups] == [3e-3, 1e-2]  # as they were given


def test_leaves_the_generators_of_the_caller_alone(tmp_path):
    task = Toy()
    torch.manual_seed(7)
    want = torch.rand(3)
    torch.manual_seed(7)
    fit(task, out=tmp_path, steps=2, seed=0)
    assert torch.equal(torch.rand(3), want)


def test_a_seed_makes_the_run(tmp_path):
    def weights(name, seed):
        task = Toy()
        fit(task, out=tmp_path / name, steps=5, seed=seed)
        return task.module().state_dict()

    assert bit_equal(weights("a", 1), weights("b", 1))
    assert not bit_equal(weights("c", 1), weights("d", 2))


def test_clips_gradients(tmp_path):
    free, clipped = Toy(), Toy()
    for task, clip in ((free, None), (clipped, 1e-3)):
        task.adamw = torch.optim.SGD(task.everything["network"].parameters(), lr=1.0)
        before = torch.cat([p.detach().flatten().clone() for p in task.everything["network"].parameters()])
        fit(task, out=tmp_path / str(clip), steps=1, seed=0, clip=clip)
        after = torch.cat([p.detach().flatten() for p in task.everything["network"].parameters()])
        task.moved = float((after - before).norm())
    assert clipped.moved == pytest.approx(1e-3, rel=1e-2)
    assert free.moved > 0.1


@pytest.mark.parametrize("stopped_at", [1, 7, 12])
def test_resume_is_bit_equal(tmp_path, stopped_at):
    want = run(tmp_path / "whole", 12, 100)
    part = Toy(64, 12)
    torch.set_num_threads(1)
    fit(part, out=tmp_path / "parts", steps=stopped_at, seed=3, config={"width": 64})
    assert bit_equal(run(tmp_path / "parts", 12, 100), want)
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is of POSIX")
def test_kill_9_at_random_moments_changes_nothing(tmp_path):
    many, width = 100_000, 1024  # more steps than are done before the kills
    out, moments = tmp_path / "killed", random.Random(0)
    for _ in range(2):
        before = _size(out / "log.csv")
        process = subprocess.Popen([sys.executable, SCRIPT, out, str(many), "2", str(width)])
        while process.poll() is None and _size(out / "log.csv") in (0, before):
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.2))
        process.kill()
        assert process.wait() == -signal.SIGKILL
    steps = int(checkpoints(out)[-1]) + 5
    resumed = run(out, steps, 50, width=width, schedule=many)
    assert bit_equal(resumed, run(tmp_path / "whole", steps, 10_000, width=width, schedule=many))
    assert rows(out) == rows(tmp_path / "whole")
    assert not list(out.rglob(".*")), "leftovers of the killed runs"


def _size(path):
    return path.stat().st_size if path.exists() else 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_request_finishes_the_step_and_says_how_to_go_on(tmp_path, number):
    before = signal.getsignal(number)
    task = Hooked(lambda step, losses: os.kill(os.getpid(), number) if step == 4 else None)
    with pytest.raises(Interrupted, match=r"after step 5 of 20(.|\n)*--resume") as stopped:
        fit(task, out=tmp_path, steps=20, seed=3)
    assert isinstance(stopped.value, KeyboardInterrupt)
    assert str(tmp_path / "checkpoints") in str(stopped.value)
    assert signal.getsignal(number) is before
    assert len(rows(tmp_path)) == 5
    assert checkpoints(tmp_path) == ["00000005"]
    rest, whole = Toy(), Toy()
    fit(rest, out=tmp_path, steps=20, seed=3, resume=True)
    fit(whole, out=tmp_path / "whole", steps=20, seed=3)
    assert bit_equal(rest.module().state_dict(), whole.module().state_dict())


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    def twice(step, losses):
        if step == 1:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)

    with pytest.raises(KeyboardInterrupt) as stopped:
        fit(Hooked(twice), out=tmp_path, steps=20, seed=3)
    assert not isinstance(stopped.value, Interrupted)


def test_a_loss_that_is_not_finite_names_the_step_and_spares_the_weights(tmp_path):
    def spoil(step, losses):
        return {**losses, "absolute": losses["absolute"] / 0} if step == 7 else losses

    task = Hooked(spoil)
    with pytest.raises(TrainingError, match=r"step 7: absolute = inf"):
        fit(task, out=tmp_path, steps=20, seed=3, checkpoint_every=3)
    assert all(t.isfinite().all() for t in task.module().state_dict().values())
    assert checkpoints(tmp_path) == ["00000003", "00000006"]


def test_a_gradient_that_is_not_finite_is_refused_too(tmp_path):
    weight = torch.nn.Parameter(torch.zeros(1))

    class Cusp(Toy):
        def __init__(self):
            self.everything = torch.nn.ParameterList([weight])
            self.adamw = torch.optim.SGD([weight], lr=0.1)

        def learning_rate(self, step):
            return 1.0

        def losses(self, step, generator):
            return {"loss": weight.sqrt().sum()}  # 0 with an infinite slope

        def after_step(self, step):
            pass

    with pytest.raises(TrainingError, match=r"step 0: gradient norm = (inf|nan)"):
        fit(Cusp(), out=tmp_path, steps=2, seed=0)
    assert float(weight.detach()) == 0.0


def test_another_seed_or_config_is_refused_by_name(tmp_path):
    def go(resume, seed=3, clip=1.0, **config):
        fit(Toy(), out=tmp_path, steps=4, seed=seed, clip=clip, resume=resume, config=config)

    go(False, train={"rate": 0.1}, genes=["A", "B"])
    go(True, train={"rate": 0.1}, genes=["A", "B"])
    with pytest.raises(ConfigError, match="seed: 3 in the checkpoint, 4 now"):
        go(True, seed=4, train={"rate": 0.1}, genes=["A", "B"])
    with pytest.raises(ConfigError) as refused:
        go(True, clip=None, train={"rate": 0.2}, genes=["A"])
    for difference in ("clip: 1.0 in the checkpoint, null now", "config.train.rate: 0.1", 'config.genes: ["A", "B"]'):
        assert difference in str(refused.value)


def test_fewer_steps_than_done_are_refused(tmp_path):
    fit(Toy(), out=tmp_path, steps=6, seed=3)
    with pytest.raises(ConfigError, match="6 steps are done, more than the 5 asked for"):
        fit(Toy(), out=tmp_path, steps=5, seed=3, resume=True)


def test_a_finished_run_resumes_to_its_result(tmp_path):
    first, again = Toy(), Toy()
    losses = fit(first, out=tmp_path, steps=6, seed=3)
    assert fit(again, out=tmp_path, steps=6, seed=3, resume=True) == losses
    assert bit_equal(first.module().state_dict(), again.module().state_dict())


def test_a_run_is_not_overwritten(tmp_path):
    fit(Toy(), out=tmp_path, steps=2, seed=3)
    with pytest.raises(OutputError, match="holds a training run already"):
        fit(Toy(), out=tmp_path, steps=2, seed=3)


def test_resume_of_nothing_starts(tmp_path):
    fit(Toy(), out=tmp_path / "new", steps=2, seed=3, resume=True)
    assert checkpoints(tmp_path / "new") == ["00000002"]


def test_weights_of_another_shape_are_refused(tmp_path):
    fit(Toy(width=64), out=tmp_path, steps=2, seed=3)
    with pytest.raises(WeightsError, match="does not fit"):
        fit(Toy(width=32), out=tmp_path, steps=4, seed=3, resume=True)


@pytest.mark.parametrize("damage", ["flip", "cut", "json", "gone"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path, damage):
    want = run(tmp_path / "whole", 12, 100)
    run(tmp_path / "damaged", 12, 4)
    folder = tmp_path / "damaged" / "checkpoints" / "00000012"
    weights = folder / "state.safetensors"
    content = bytearray(weights.read_bytes())
    if damage == "flip":
        content[-5] ^= 1
        weights.write_bytes(content)
    elif damage == "cut":
        weights.write_bytes(content[: len(content) // 2])
    elif damage == "json":
        (folder / "checkpoint.json").write_text('{"format": 1, "step"')
    else:
        weights.unlink()
    with pytest.warns(UserWarning, match="00000012"):
        assert bit_equal(run(tmp_path / "damaged", 12, 4), want)


def test_nothing_but_damaged_checkpoints_is_an_error(tmp_path):
    run(tmp_path, 2, 100)
    (tmp_path / "checkpoints" / "00000002" / "checkpoint.json").write_text(json.dumps({"format": 99}))
    with pytest.warns(UserWarning, match="format 99"), pytest.raises(WeightsError, match="every checkpoint is damaged"):
        run(tmp_path, 4, 100)


def test_a_full_disk_spares_the_last_checkpoint(tmp_path):
    def fill(step, losses):
        if step == 5:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))  # no file may grow past 2 kB

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    task = Hooked(fill)
    try:
        with pytest.raises(OutputError, match="can not write a checkpoint"):
            fit(task, out=tmp_path, steps=20, seed=3, checkpoint_every=3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert checkpoints(tmp_path) == ["00000003"]
    rest, whole = Toy(), Toy()
    fit(rest, out=tmp_path, steps=20, seed=3, resume=True)
    fit(whole, out=tmp_path / "whole", steps=20, seed=3)
    assert bit_equal(rest.module().state_dict(), whole.module().state_dict())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda step, losses: {"other": losses["loss"]}, TrainingError, "no 'loss' to minimise"),
        (lambda step, losses: {**losses, **({"late": losses["loss"]} if step else {})}, TrainingError, "step 1.*late"),
    ],
)
def test_a_task_that_breaks_its_contract_is_told_so(tmp_path, change, error, message):
    with pytest.raises(error, match=message):
        fit(Hooked(change), out=tmp_path, steps=3, seed=3)


def test_wrong_arguments(tmp_path):
    with pytest.raises(UsageError, match="checkpoint_every is 0"):
        fit(Toy(), out=tmp_path, steps=3, seed=3, checkpoint_every=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        fit(Toy(), out=tmp_path / "file" / "run", steps=3, seed=3)
    with pytest.raises(OutputError, match="file"):
        fit(Toy(), out=tmp_path / "file", steps=3, seed=3)
