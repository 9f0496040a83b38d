"""Images a second of our ViT-B/32 beside transformers' CLIP image tower, same weights, and of its int8 form.

Run ``python benchmarks/vit_throughput.py`` in an environment with stzoo and transformers; it writes
``benchmarks/results/vit_throughput.json`` and prints a table. 224 px, random weights that transformers wrote, no
gradients. The three take turns, and the best of all rounds counts, since others use the machine; where they use much
of it, read the ratios of CPU seconds with ``--threads 1``. int8: dynamic quantisation of the linear layers
(``torch.ao.quantization``), with the cosine similarity of its features to float32's.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "vit_throughput.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32], help="images at a time")
    parser.add_argument("--rounds", type=int, default=8)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(options.threads)
    towers, ours, small = networks()
    rows = [row for b in options.batches for row in measure(towers, b, options.rounds)]
    for row in rows:
        print(
            "batch {batch:3d}  {tower:12s} {images_per_second:7.2f} images/s  x{ratio:.2f} of transformers".format(
                **row
            )
        )
    result = {"machine": {**machine(), "threads": options.threads}, "rows": rows, **agreement(towers, ours, small)}
    print(json.dumps({key: value for key, value in result.items() if key != "rows"}, indent=1))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def networks() -> tuple[dict[str, Callable[[Any], Any]], Any, Any]:
    """Return functions from images to tokens: transformers' tower, ours, ours in int8; and our two modules."""
    import torch
    import transformers
    from stzoo.core.nn.pretrained import clip_towers, read_checkpoint, read_hints
    from stzoo.core.nn.vit import ViT
    from stzoo.core.weights.repository import restore_module

    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    vision = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    text = {"num_hidden_layers": 1, "vocab_size": 64, "bos_token_id": 62, "eos_token_id": 63}
    config = transformers.CLIPConfig(vision_config=vision, text_config=text)
    theirs = transformers.CLIPModel(config).eval()
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        parts = clip_towers(read_checkpoint(Path(folder)), read_hints(Path(folder)))
    ours = ViT(parts.vision_config).eval()
    restore_module(ours, parts.vision)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces the next home of quantize_dynamic
        small = torch.ao.quantization.quantize_dynamic(ours, {torch.nn.Linear}, dtype=torch.qint8)
    towers = {
        "transformers": lambda images: theirs.vision_model(images).last_hidden_state,
        "ours": lambda images: ours(images),
        "ours int8": lambda images: small(images),
    }
    return towers, ours, small


def measure(towers: dict[str, Callable[[Any], Any]], batch: int, rounds: int) -> list[dict[str, Any]]:
    """Return the best of some rounds; in each, every tower has its turn."""
    import torch

    images = torch.randn(batch, 3, 224, 224)
    best = {name: (float("inf"), float("inf")) for name in towers}
    with torch.inference_mode():
        for tower in towers.values():
            tower(images)
        for _ in range(rounds):
            for name, tower in towers.items():
                start, cpu_start = time.perf_counter(), time.process_time()
                tower(images)
                took = time.perf_counter() - start, time.process_time() - cpu_start
                best[name] = min(best[name][0], took[0]), min(best[name][1], took[1])
    return [
        {
            "batch": batch,
            "tower": name,
            "images_per_second": round(batch / seconds, 2),
            "ratio": round(best["transformers"][0] / seconds, 3),
            "cpu_ratio": round(best["transformers"][1] / cpu_seconds, 3),
        }
        for name, (seconds, cpu_seconds) in best.items()
    ]


def agreement(towers: dict[str, Callable[[Any], Any]], ours: Any, small: Any) -> dict[str, Any]:
    """Return the largest difference of the float32 towers, and cosines of int8 to float32."""
    import torch
    import torch.nn.functional as F

    images = torch.randn(32, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        theirs, full, int8 = (
            torch.cat([tower(part) for part in images.split(16)]) for tower in (towers["transformers"], ours, small)
        )
        normed = ours.layernorm(theirs)  # transformers norms the class token only, and later
    cosines = {
        "mean_of_patches": F.cosine_similarity(full[:, 1:].mean(1), int8[:, 1:].mean(1)),
        "class_token": F.cosine_similarity(full[:, 0], int8[:, 0]),
    }
    return {
        "largest_difference_to_transformers": float((normed - full).abs().max()),
        "int8_cosine": {
            name: {"min": round(float(c.min()), 5), "mean": round(float(c.mean()), 5)} for name, c in cosines.items()
        },
    }


def machine() -> dict[str, Any]:
    import torch
    import transformers

    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "platform": platform.machine(),
    }


if __name__ == "__main__":
    main()
