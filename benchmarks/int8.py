"""What int8 costs CoMTIP: time, cosine of its vectors to float32's, and correlation with measured expression.

``python benchmarks/int8.py --data FOLDER`` writes benchmarks/results/int8.json. Packaged weights on her2st C5, ridge
head, the 250 genes of highest mean on the training sections; tiles are read before the clock starts.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results" / "int8.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    import stzoo
    import torch
    from stzoo.core.metrics.summary import summarise

    torch.set_num_threads(options.threads)
    training = [stzoo.read(f"{options.data}/her2st::{name}") for name in ("C2", "C3", "C4")]
    section = stzoo.read(f"{options.data}/her2st::C5")
    full, small = stzoo.load("comtip-tiny"), stzoo.load("comtip-tiny").quantise()
    genes = top_genes(training, [gene for gene in full.genes("ridge") if gene in set(section.genes)])
    truth = section.expression(genes, target=1e4)
    found: dict[str, Any] = {"threads": options.threads, "spots": section.n_spots, "genes": len(genes)}
    vectors = {}
    for name, encoder in (("float32", full), ("int8", small)):
        encoder.image_vectors(section)  # tiles are kept from here on
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            vectors[name] = encoder.image_vectors(section)
            seconds.append(time.perf_counter() - start)
        pcc = summarise(truth, encoder.predict(section, genes).values)["pcc_mean"]
        found[name] = {"seconds": round(min(seconds), 3), "pcc_mean": round(pcc, 4)}
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in vectors.values()]
    cosine = (unit[0] * unit[1]).sum(axis=1)
    found["cosine"] = {"mean": round(float(cosine.mean()), 5), "least": round(float(cosine.min()), 5)}
    found["faster"] = round(found["float32"]["seconds"] / found["int8"]["seconds"], 2)
    print(json.dumps(found, indent=1))
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def top_genes(training: list[Any], genes: list[str]) -> list[str]:
    mean = np.concatenate([s.expression(genes, target=1e4) for s in training]).mean(axis=0)
    return [genes[i] for i in np.argsort(-mean, kind="stable")[:250]]


if __name__ == "__main__":
    main()
