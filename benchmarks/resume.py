"""Kill training runs with -9 at random moments, fill the disk under one, resume them, and compare bit for bit.

Run ``python benchmarks/resume.py``; it writes ``benchmarks/results/resume.json``. The run is that of
tests/helpers/resumable_run.py: dropout, AdamW, a schedule, averaged weights, a validation every third step, patience,
and the best weights at the end; a checkpoint every second step, so that many kills fall into the writing of one. Every
chain is a process of its own that is killed once, at a moment drawn uniformly from the time that a run takes, and is
then resumed to its end. Compared are all tensors, both logs (without the seconds) and the best weights' step.

The full disk is a tmpfs of two and a half checkpoints, mounted in a namespace of its own (Linux): writes fail with
"No space left on device". Then it is made larger, and the run goes on.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from stzoo.core.errors import OutputError
from stzoo.core.training.log import read_log

RESULTS = Path(__file__).parent / "results" / "resume.json"
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
import resumable_run  # noqa: E402

STEPS, EVERY, WIDTH, PATIENCE = 400, 2, 2048, 8


def train(folder: Path) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = resumable_run.run(folder, STEPS, EVERY, width=WIDTH, patience=PATIENCE)
    return tensors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chains", type=int, default=30)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--on", type=Path, help="the small disk; the script calls itself with it")
    options = parser.parse_args()
    if options.on:
        print(json.dumps(fill_the_disk(options.on)))
        return
    moments = random.Random(0)
    with tempfile.TemporaryDirectory() as scratch:
        start = time.perf_counter()
        want = (train(Path(scratch) / "whole"), logs(Path(scratch) / "whole"))
        seconds = time.perf_counter() - start
        chains = [chain(Path(scratch) / str(i), seconds, moments, want) for i in range(options.chains)]
        full = disk(Path(scratch) / "small")
    result = {
        "steps_until_patience_ran_out": int(want[1][1][-1]["step"]),
        "kills": len(chains),
        "kills_while_a_checkpoint_was_written": sum(c["in_checkpoint"] for c in chains),
        "bit_equal_to_the_run_never_stopped": sum(c["bit_equal"] for c in chains),
        "disk_full_during_a_checkpoint": full,
        "chains": chains,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print({key: value for key, value in result.items() if key != "chains"})


def chain(folder: Path, seconds: float, moments: random.Random, want: Any) -> dict[str, Any]:
    """Kill a run once, let it end, and compare it with the one that was never stopped."""
    while True:  # a run that ended before its moment came is no kill: start over
        process = multiprocessing.get_context("fork").Process(target=train, args=(folder,))
        process.start()
        process.join(moments.uniform(0, seconds))
        process.kill()
        process.join()
        if process.exitcode == -9:
            break
        if process.exitcode:
            sys.exit("the run failed by itself")
        subprocess.run(["rm", "-r", folder], check=True)
    killed_after = last_checkpoint(folder)
    in_checkpoint = any(folder.glob("checkpoints/.*")) or any(folder.glob("best/.*"))
    equal = same((train(folder), logs(folder)), want)
    print(folder.name, killed_after, "bit-equal" if equal else "DIFFERENT", flush=True)
    return {"killed_after": killed_after, "in_checkpoint": in_checkpoint, "bit_equal": equal}


def disk(folder: Path) -> dict[str, Any] | str:
    """Let a disk run full under a run."""
    folder.mkdir()
    script = f"mount -t tmpfs -o size={size_of_a_checkpoint() * 5 // 2} none '{folder}' && exec '{sys.executable}' "
    command = ["unshare", "--map-root-user", "--user", "--mount", "sh", "-c", script + f"'{__file__}' --on '{folder}'"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"not measured here: {done.stderr.strip().splitlines()[-1]}"
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def fill_the_disk(folder: Path) -> dict[str, Any]:
    run = folder / "run"
    try:
        train(run)
    except OutputError as error:
        said = str(error).splitlines()[0].replace(str(folder), "OUT")
    else:
        sys.exit("the disk did not run full")
    kept = sorted(p.name for p in (run / "checkpoints").glob("[0-9]*"))
    subprocess.run(["mount", "-o", "remount,size=1g", folder], check=True)
    resumed = (train(run), logs(run))
    with tempfile.TemporaryDirectory(dir=folder) as other:
        whole = (train(Path(other)), logs(Path(other)))
    return {"error": said, "checkpoints_that_survived": kept, "resumed_bit_equal": same(resumed, whole)}


def size_of_a_checkpoint() -> int:
    with tempfile.TemporaryDirectory() as scratch:
        resumable_run.run(Path(scratch), 1, 1, width=WIDTH)
        return sum(file.stat().st_size for file in Path(scratch).glob("checkpoints/*/*"))


def logs(folder: Path) -> list[list[dict[str, str]]]:
    found = [read_log(folder / name) for name in ("log.csv", "validation.csv")]
    return [[{k: v for k, v in row.items() if k != "seconds"} for row in rows] for rows in found]


def same(got: Any, want: Any) -> bool:
    one, other = got[0], want[0]
    tensors = one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)
    return bool(tensors and got[1] == want[1])


def last_checkpoint(folder: Path) -> int:
    return max((int(p.name) for p in folder.glob("checkpoints/*") if p.name.isdigit()), default=0)


if __name__ == "__main__":
    main()
