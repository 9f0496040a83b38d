"""Time and peak memory of attention, each measurement in its own process: naive, chunked, SDPA.

Run ``python benchmarks/attention.py``; it writes ``benchmarks/results/attention.json`` and prints a table.
8 heads x 64, float32, batch 1. Memory is the growth of the peak resident set (VmHWM) over a warm-up on 64 tokens, so it
counts the inputs made after it, the outputs and all that is held between. On a machine that others use, measure with
``--threads 1`` and read the CPU seconds: with more, every small kernel waits for a thread that is not running.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HEADS, WIDTH = 8, 64
BACKENDS = ("naive", "chunked", "sdpa")
MODES = ("forward", "both")
RESULTS = Path(__file__).parent / "results" / "attention.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, nargs="+", default=[4096, 8192])
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--one", nargs=3, metavar=("BACKEND", "MODE", "TOKENS"), help="measure here, print JSON")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3, help="best of how many")
    parser.add_argument("--agree", type=int, metavar="TOKENS", help="compare the backends here, print JSON")
    options = parser.parse_args()
    if options.one:
        backend, mode, tokens = options.one
        print(json.dumps(measure(backend, mode, int(tokens), options.threads, options.repeats)))
    elif options.agree:
        print(json.dumps(agreement(options.agree, options.threads)))
    else:
        report(options)


def report(options: argparse.Namespace) -> None:
    """Measure everything, write the JSON, print the table."""
    tokens, how = options.tokens, ("--threads", str(options.threads), "--repeats", str(options.repeats))
    rows = [child("--one", backend, mode, str(n), *how) for n in tokens for mode in MODES for backend in BACKENDS]
    for row in rows:
        naive = next(r for r in rows if all(r[k] == row[k] for k in ("mode", "tokens")) and r["backend"] == "naive")
        row["faster_than_naive"] = round(naive["seconds"] / row["seconds"], 2)
        row["cpu_faster_than_naive"] = round(naive["cpu_seconds"] / row["cpu_seconds"], 2)
        row["leaner_than_naive"] = round(naive["peak_mib"] / max(row["peak_mib"], 1.0), 1)
        print(
            "{tokens:6d} {mode:8s} {backend:8s} {seconds:8.3f} s (cpu {cpu_seconds:.3f}) {peak_mib:8.0f} MiB  "
            "x{faster_than_naive:<6} faster, x{leaner_than_naive:<6} leaner".format(**row)
        )
    differences = [child("--agree", str(n), *how) for n in tokens]
    print(json.dumps(differences, indent=1))
    result = {
        "machine": {**machine(), "threads": options.threads},
        "rows": rows,
        "largest_difference_to_naive": differences,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def child(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def measure(backend: str, mode: str, tokens: int, threads: int, repeats: int) -> dict[str, Any]:
    """Return the best time of some runs, and the growth of the peak resident set over all of them."""
    once(backend, mode, *inputs(64, threads))
    before = peak_mib()
    q, k, v = inputs(tokens, threads)
    seconds, cpu_seconds = [], []
    for _ in range(repeats):
        start, cpu_start = time.perf_counter(), time.process_time()
        once(backend, mode, q, k, v)
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu_start)
    return {
        "tokens": tokens,
        "mode": mode,
        "backend": backend,
        "seconds": round(min(seconds), 4),
        "cpu_seconds": round(min(cpu_seconds), 4),
        "peak_mib": round(peak_mib() - before, 1),
        "xformers_imported": "xformers" in sys.modules,
    }


def inputs(tokens: int, threads: int) -> list[Any]:
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(threads)
    return [torch.randn(1, HEADS, tokens, WIDTH) for _ in range(3)]


def once(backend: str, mode: str, *qkv: Any) -> list[Any]:
    """Return the output, and for ``both`` the gradients of q, k and v too."""
    from stzoo.core.nn.scaled_dot_product import attention

    leaves = [t.detach().requires_grad_(mode == "both") for t in qkv]
    out = attention(*leaves, backend=backend)
    if mode == "both":
        out.square().sum().backward()
    return [out.detach(), *(t.grad for t in leaves if t.grad is not None)]


def agreement(tokens: int, threads: int) -> dict[str, Any]:
    """Return the largest differences to the naive formula, relative to its largest value."""
    qkv = inputs(tokens, threads)
    want = once("naive", "both", *qkv)
    differences: dict[str, Any] = {"tokens": tokens}
    for backend in BACKENDS[1:]:
        got = once(backend, "both", *qkv)
        relative = [float((a - b).abs().max() / b.abs().max()) for a, b in zip(got, want, strict=True)]
        differences[backend] = dict(zip(("output", "dq", "dk", "dv"), relative, strict=True))
    return differences


def peak_mib() -> float:
    """Return the largest resident set of this process so far (unlike ru_maxrss, not its parent's)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


def machine() -> dict[str, Any]:
    import torch

    return {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "platform": platform.machine(),
        "gpu": torch.cuda.is_available(),
    }


if __name__ == "__main__":
    main()
