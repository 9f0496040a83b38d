"""Time and peak memory of the paper's sentences: each read whole, and ours (beginnings once, ends for each pair).

Run ``python benchmarks/gene_sentences.py``; it writes ``benchmarks/results/gene_sentences.json`` and prints a table.
Three ways, each measurement in a process of its own, in turns, the best of all rounds: ``naive 77``, every sentence
padded to 77 tokens as CLIP pads (once, for it is long); ``naive``, padded to the longest; ``ours``. The naive ways take
128 sentences at a time. Memory is the growth of the peak resident set over a warm-up. On a machine that others use,
read the CPU seconds with ``--threads 1``. The work is the same in every layer, so ``--depth`` changes the times and
hardly the ratios.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "gene_sentences.json"
WAYS = ("naive 77", "naive", "ours")
WIDTH, HEADS, AT_ONCE = 512, 8, 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--depth", type=int, default=12)
    parser.add_argument("--genes", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--train-genes", type=int, default=64, help="genes of the step with gradients")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--one", nargs=4, metavar=("WAY", "MODE", "SAMPLES", "GENES"), help="measure here, print JSON")
    options = parser.parse_args()
    if options.one:
        way, mode, samples, genes = options.one
        print(json.dumps(measure(way, mode, int(samples), int(genes), options.depth, options.threads)))
    else:
        report(options)


def report(options: argparse.Namespace) -> None:
    """Measure everything, write the JSON, print the table."""
    b, g = options.samples, options.genes
    cells = [(way, "forward", b, g) for way in WAYS] + [(way, "both", b, options.train_genes) for way in WAYS]
    cells += [("ours", "forward", 2 * b, g), ("ours", "forward", 4 * b, g)]
    cells += [("ours", "forward", b, g // 4), ("ours", "forward", b, g // 2)]
    measured: dict[tuple[str, str, int, int], list[dict[str, Any]]] = {cell: [] for cell in cells}
    for turn in range(options.rounds):
        for cell in cells:
            if turn == 0 or cell[:2] != ("naive 77", "forward"):  # which takes longer than all others together
                measured[cell].append(child(cell, options))
    rows = [best(of_cell) for of_cell in measured.values()]
    for row in rows:
        naive = next(r for r in rows if all(r[k] == row[k] for k in ("mode", "samples", "genes")))
        row["cpu_faster"] = round(naive["cpu_seconds"] / row["cpu_seconds"], 1) if naive["way"] == WAYS[0] else None
        row["faster"] = round(naive["seconds"] / row["seconds"], 1) if naive["way"] == WAYS[0] else None
        print(
            "{way:9s} {mode:8s} {samples:2d} x {genes:4d} {seconds:7.2f} s (cpu {cpu_seconds:.2f}) {peak_mib:5.0f} MiB "
            "x{faster} (cpu x{cpu_faster}) faster than naive 77".format(**row)
        )
    ours = [row for row in rows if row["way"] == "ours" and row["mode"] == "forward"]
    exponents = {
        "samples": exponent([r for r in ours if r["genes"] == g], "samples"),
        "genes": exponent([r for r in ours if r["samples"] == b], "genes"),
    }
    print(json.dumps({"exponents": exponents}))
    shape = {"width": WIDTH, "heads": HEADS, "depth": options.depth, "sentences_at_a_time_naive": AT_ONCE}
    result = {"machine": {**machine(), "threads": options.threads}, "shape": shape, "rows": rows}
    result["exponents_of_cpu_seconds"] = exponents
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def best(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the least times and the largest peak."""
    kinds = {"seconds": min, "cpu_seconds": min, "peak_mib": max}
    return {**rows[0], **{key: kind(row[key] for row in rows) for key, kind in kinds.items()}}


def exponent(rows: list[dict[str, Any]], size: str) -> float:
    """Return the slope of log(CPU seconds) over log(size)."""
    x, y = [math.log(row[size]) for row in rows], [math.log(row["cpu_seconds"]) for row in rows]
    mx, my = sum(x) / len(x), sum(y) / len(y)
    return round(sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / sum((a - mx) ** 2 for a in x), 3)


def child(cell: tuple[str, str, int, int], options: argparse.Namespace) -> dict[str, Any]:
    how = ("--depth", str(options.depth), "--threads", str(options.threads))
    command = [sys.executable, __file__, "--one", *(str(part) for part in cell), *how]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def measure(way: str, mode: str, samples: int, genes: int, depth: int, threads: int) -> dict[str, Any]:
    """Time one pass, and the growth of the peak resident set over a warm-up of four genes."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    tower, inputs = tower_and_genes(depth, genes)
    once(way, mode, tower, inputs[torch.arange(4)], torch.rand(1, 4))
    values, before = torch.rand(samples, genes) * 6, peak_mib()
    start, cpu_start = time.perf_counter(), time.process_time()
    once(way, mode, tower, inputs, values)
    return {
        "way": way,
        "mode": mode,
        "samples": samples,
        "genes": genes,
        "longest_beginning": inputs.tokens.shape[1],
        "seconds": round(time.perf_counter() - start, 3),
        "cpu_seconds": round(time.process_time() - cpu_start, 3),
        "peak_mib": round(peak_mib() - before, 1),
    }


def tower_and_genes(depth: int, genes: int) -> tuple[Any, Any]:
    """Return a tower of CLIP's width, and made-up symbols of two to eight tokens."""
    import torch
    from stzoo.plugins.comtip.config import Text, TextConfig, Values
    from stzoo.plugins.comtip.sentences import SentenceTower, encode_sentences
    from stzoo.plugins.comtip.vocabulary import learn_sentence_tokenizer

    letters = torch.randint(26, (genes, 4), generator=torch.Generator().manual_seed(0)).tolist()
    symbols = ["".join(chr(65 + i) for i in row[: 2 + n % 3]) + str(n) for n, row in enumerate(letters)]
    tokenizer = learn_sentence_tokenizer(symbols, 600)
    config = TextConfig(Text.sentences, WIDTH, depth, HEADS, values=Values.affine, clip=True)
    tower = SentenceTower(config, genes, tokenizer.size, tokenizer.suffix, WIDTH)
    return tower, encode_sentences(tokenizer, symbols, {symbol: i for i, symbol in enumerate(symbols)})


def once(way: str, mode: str, tower: Any, inputs: Any, values: Any) -> None:
    """Read every sentence of ``values`` (b, g) and pool them; for ``both``, the gradients of all weights too."""
    import torch

    with torch.set_grad_enabled(mode == "both"):
        if way == "ours":
            z = tower.encode_profiles(tower.encode_genes(inputs), values)
        else:
            length = 77 if way == "naive 77" else None
            rows, each = torch.arange(len(inputs)), max(1, AT_ONCE // len(values))
            z = sum(
                tower.encode_naively(inputs[r], values[:, r], length=length).sum(1) for r in rows.split(each)
            ) / len(rows)
        if mode == "both":
            z.square().sum().backward()
            tower.zero_grad()


def peak_mib() -> float:
    """Return the largest resident set of this process so far."""
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
    }


if __name__ == "__main__":
    main()
