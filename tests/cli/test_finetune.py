"""``stzoo finetune`` through the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stzoo.core.io.synthetic import synthetic_section
from stzoo.core.io.write import write


@pytest.fixture(scope="module")
def tissue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tissue")
    for seed in range(3):
        section = synthetic_section(side_um=1000, pitch_um=100, seed=seed, name=f"s{seed}")
        section.adata.obs["patient"] = "AAB"[seed]
        write(section, folder / f"s{seed}.zarr")
    return folder


def test_a_dry_run_says_everything_and_writes_nothing(stzoo: Callable[..., Any], tissue: Path, tmp_path: Path) -> None:
    own = [tissue / "s0.zarr", tissue / "s1.zarr", "--test", tissue / "s2.zarr"]
    done = stzoo("finetune", "comtip-tiny", *own, "--out", tmp_path / "out", "--tune", "lora", "--dry-run")
    assert done.code == 0, done.err
    for said in ("81 spots", "1 µm/px", "patient A", "(by block)", "new (", "28,192 of", "estimate:", "MB"):
        assert said in done.out
    assert list(tmp_path.iterdir()) == []


def test_weights_that_predict_and_that_can_be_published(
    stzoo: Callable[..., Any], tissue: Path, tmp_path: Path
) -> None:
    genes, out = tmp_path / "genes.txt", tmp_path / "tuned"
    genes.write_text("ERBB2\nCD74\n# a comment\nTRAC\n")
    own = [tissue / "s0.zarr", tissue / "s1.zarr", "--test", tissue / "s2.zarr"]
    done = stzoo("finetune", "comtip-tiny", *own, "--out", out, "--genes", genes, "--license", "Apache-2.0")
    assert done.code == 0, done.err
    assert "before: weights as they come" in done.out
    assert "ridge on colour-texture" in done.out
    predicted = stzoo("predict", tissue / "s2.zarr", "--model", out / "weights", "--out", tmp_path / "p.h5ad")
    assert predicted.code == 0, predicted.err
    assert "TRAC: PCC" in predicted.out
    assert stzoo("zoo", "push", out / "weights", "me/tuned", "--dry-run").code == 0
    card = (out / "weights" / "README.md").read_text()
    for said in ("license: apache-2.0", "gene mean", "s2 (81 spots, patient B)", "sha256", "patients"):
        assert said in card
    again = stzoo("finetune", "comtip-tiny", *own, "--out", out, "--resume")
    assert (again.code, "finished run" in again.err) == (1, True)


def test_a_tracker_is_told_of_the_tuning(stzoo: Callable[..., Any], tissue: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tmp_path / "tuned"
    few = ["rates.steps=2", "rates.batch=12", "validations=1"]
    options = ["--tune", "full", "--genes", "ERBB2,CD74", "--tracker", "tensorboard"]
    options += [part for one in few for part in ("--set", one)]
    done = stzoo("finetune", "comtip-tiny", tissue / "s0.zarr", "--test", tissue / "s2.zarr", "--out", out, *options)
    assert done.code == 0, done.err
    events = EventAccumulator(str(out / "run" / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2]
    assert [event.step for event in events.Scalars("validation/pcc")] == [2]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["s0", "--test", "s1"], "--same-patient"),
        (["s0", "s2", "--test", "s1"], "patient 'A' is in training and in test"),
        (["s0", "--test", "s2", "--tune", "laura"], "did you mean 'lora'?"),
        (["s0", "--test", "s2", "--split", "spot"], "--split auto"),
        (["s0", "--test", "s2", "--genes", "ERBB3X"], "no gene 'ERBB3X'"),
        (["s0", "--test", "s2", "--tune", "head", "--contrast"], "contrast"),
        (["s0", "--test", "s2", "--set", "rates.step=3"], "steps"),
        (["s0", "--test", "s2", "--tracker", "tensorbord"], "did you mean 'tensorboard'?"),
        (["s0", "--test", "s2", "--patients", "P1"], "1 patients for 2 sections"),
    ],
)
def test_bad_use_is_explained_and_leaves_nothing(
    options: list[str], said: str, stzoo: Callable[..., Any], tissue: Path, tmp_path: Path
) -> None:
    arguments = [tissue / f"{o}.zarr" if o in ("s0", "s1", "s2") else o for o in options]
    done = stzoo("finetune", "comtip-tiny", *arguments, "--out", tmp_path / "out")
    assert done.code in (1, 2)
    assert said in done.err
    assert "Traceback" not in done.err
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_there_is_refused(stzoo: Callable[..., Any], tissue: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    done = stzoo("finetune", "comtip-tiny", tissue / "s0.zarr", "--out", tmp_path / "out")
    assert (done.code, "exists already" in done.err) == (1, True)
