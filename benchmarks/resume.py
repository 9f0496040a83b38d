"""Kill a training run with -9 at random moments, resume it, and compare its final weights bit for bit.

Run ``python benchmarks/resume.py``; it writes ``benchmarks/results/resume.json``. The run is that of
tests/core/resumable_run.py (dropout, AdamW, schedule, averaged weights; a checkpoint every second step, so that many
kills fall into the writing of one). Every chain of kills starts a run of its own and ends with a resume to the last
step. Two kills of three fall into the half second after a checkpoint, the third anywhere after the start.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "tests" / "core" / "resumable_run.py"
RESULTS = Path(__file__).parent / "results" / "resume.json"
sys.path.insert(0, str(SCRIPT.parent))
STEPS, EVERY, WIDTH = 3000, 2, 16384


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chains", type=int, default=10)
    parser.add_argument("--kills", type=int, default=3, help="kills a chain")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    moments = random.Random(0)
    with tempfile.TemporaryDirectory() as scratch:
        chains = [chain(Path(scratch) / str(i), options.kills, moments) for i in range(options.chains)]
    result = {
        "kills": sum(len(c["killed_after"]) for c in chains),
        "kills_while_a_checkpoint_was_written": sum(c["in_checkpoint"] for c in chains),
        "runs": len(chains),
        "runs_bit_equal_to_the_one_never_stopped": sum(c["bit_equal"] for c in chains),
        "chains": chains,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print({key: value for key, value in result.items() if key != "chains"})


def chain(folder: Path, kills: int, moments: random.Random) -> dict[str, object]:
    """Kill a run some times, let it end, and compare it with one that was never stopped."""
    import resumable_run
    import torch

    killed_after: list[int] = []
    in_checkpoint = 0
    for number in range(kills):
        process = subprocess.Popen([sys.executable, SCRIPT, folder, str(STEPS), str(EVERY), str(WIDTH)])
        start = last_checkpoint(folder)
        while number % 3 < 2 and process.poll() is None and last_checkpoint(folder) <= start:
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.5 if number % 3 < 2 else 5))
        process.kill()
        if process.wait() != -signal.SIGKILL:
            sys.exit("the run ended before it was killed: it failed, or STEPS are too few")
        killed_after.append(last_checkpoint(folder))
        in_checkpoint += any(folder.glob("checkpoints/.*"))
    steps = killed_after[-1] + 10
    resumed = resumable_run.run(folder, steps, 1000, width=WIDTH, schedule=STEPS)
    whole = resumable_run.run(folder.with_suffix(".whole"), steps, 1000, width=WIDTH, schedule=STEPS)
    equal = resumed.keys() == whole.keys() and all(torch.equal(resumed[k], whole[k]) for k in whole)
    print(folder.name, killed_after, "bit-equal" if equal else "DIFFERENT", flush=True)
    return {"killed_after": killed_after, "in_checkpoint": in_checkpoint, "bit_equal": equal}


def last_checkpoint(folder: Path) -> int:
    return max((int(p.name) for p in folder.glob("checkpoints/*") if p.name.isdigit()), default=0)


if __name__ == "__main__":
    main()
