"""How well the aligners ``rigid`` and ``affine-image`` find known maps of real slides, and what they do to real pairs.

Run ``python benchmarks/affine_image.py --data ../shared/data`` in an environment with stzoo; it writes
``benchmarks/results/affine_image.json``.

Known maps: her2st C3, C4 and C5, each turned by a random angle, mirrored in half of the runs, shifted by up to 500 µm
and sheared by 5 % (strain), its stain made weaker or stronger, with noise on every pixel; whole, and with 40 % of the
tissue cut off behind a straight line. The error is the distance of each spot from where the true map takes it.

Real pairs: C3, C5 and C2 onto C4. Overlap and correlation of stain say how alike the slides look; the correlation of
250 genes (the most abundant ones of C4, a Gaussian mean of 120 µm over the moved spots) is what neither aligner saw.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
from anndata import AnnData
from stzoo.core.aligner import Aligner
from stzoo.core.data.section import Section
from stzoo.core.geometry.transform import Transform
from stzoo.core.io.read import read
from stzoo.core.metrics.correlation import per_gene_pcc
from stzoo.core.slides.slide import Slide
from stzoo.core.workflows.alignment_quality import quality
from stzoo.plugins.baselines.aligners.affine_image import AffineImage
from stzoo.plugins.baselines.aligners.rigid import Rigid

RESULTS = Path(__file__).parent / "results" / "affine_image.json"
HALF_PITCH_UM = 100.0
Known = tuple[Section, Section, Transform]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--runs", type=int, default=2, help="random maps a section")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    sections = {name: read(f"{options.data / 'her2st'}::{name}") for name in ("C2", "C3", "C4", "C5")}
    aligners: list[Aligner] = [Rigid(), AffineImage()]
    rows = []
    for kept in (1.0, 0.6):
        known = [known_pair(sections[n], seed, kept) for n in ("C3", "C4", "C5") for seed in range(options.runs)]
        rows += [measure(aligner, known, f"known map, {kept:.0%} kept") for aligner in aligners]
    pairs = [real_pair(aligner, sections[n], sections["C4"]) for n in ("C3", "C5", "C2") for aligner in aligners]
    machine = {"python": platform.python_version(), "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2)}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    found = {"machine": machine, "known": rows, "pairs": pairs}
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for row in rows + pairs:
        print("  ".join(f"{key} {value}" for key, value in row.items()))


def known_pair(section: Section, seed: int, kept: float) -> Known:
    """Return a section, the same under a random map, and the map."""
    rng = np.random.default_rng(seed)
    pixels, scale = section.require_slide().thumbnail(900)
    mpp = (section.mpp or 0.0) / scale
    middle = (pixels.shape[1] * mpp / 2, pixels.shape[0] * mpp / 2)
    shift = (2300 + rng.uniform(-500, 500), 2700 + rng.uniform(-500, 500))
    turned = Transform.rigid(float(rng.uniform(0, 360)), shift, flip=bool(seed % 2), centre=middle)
    strain = np.array([[1, rng.choice([-0.05, 0.05]), 0], [0, 1, 0]])
    around = Transform(np.column_stack([np.eye(2), middle]))
    truth = around.inverse().then(Transform(strain)).then(around).then(turned)
    moved = truth.apply_image(pixels, mpp=mpp, shape=(1600, 1600)).astype(np.float64)
    moved = 255 * (moved / 255) ** rng.uniform(0.8, 1.25) + rng.normal(0, 8, moved.shape)
    um = truth.apply(section.um)
    angle = rng.uniform(0, 2 * np.pi)
    side = np.array([np.cos(angle), np.sin(angle)])
    line = np.quantile(um @ side, kept)
    if kept < 1:
        y, x = (np.mgrid[:1600, :1600] + 0.5) * mpp
        moved[x * side[0] + y * side[1] > line] = np.median(moved[:3].reshape(-1, 3), axis=0)
    slide = Slide.from_array(np.clip(moved, 0, 255).astype(np.uint8), mpp=mpp)
    there = um[um @ side <= line]
    adata = AnnData(np.ones((len(there), 1), dtype=np.float32), obsm={"spatial": there / mpp})
    return section, Section(adata, "turned", slide=slide, mpp=mpp), truth


def measure(aligner: Aligner, pairs: list[Known], case: str) -> dict[str, Any]:
    errors, seconds = [], []
    for moving, fixed, truth in pairs:
        start = time.perf_counter()
        found = aligner.align(moving, fixed)
        seconds.append(time.perf_counter() - start)
        errors.append(np.linalg.norm(found.apply(moving.um) - truth.apply(moving.um), axis=1))
    spots = np.concatenate(errors)
    return {
        "case": case,
        "aligner": aligner.name,
        "runs": len(pairs),
        "median_um": round(float(np.median(spots)), 1),
        "mean_um": round(float(spots.mean()), 1),
        "worst_run_um": round(float(max(error.mean() for error in errors)), 1),
        "within_half_pitch": round(float((spots < HALF_PITCH_UM).mean()), 3),
        "median_s": round(float(np.median(seconds)), 1),
    }


def real_pair(aligner: Aligner, moving: Section, fixed: Section) -> dict[str, Any]:
    start = time.perf_counter()
    found = aligner.align(moving, fixed)
    seconds = time.perf_counter() - start
    judged = quality(moving, fixed, found, back=aligner.align(fixed, moving))
    return {
        "pair": f"{moving.name} -> {fixed.name}",
        "aligner": aligner.name,
        "dice": round(judged.dice, 3),
        "stain_correlation": round(judged.stain_correlation or 0.0, 3),
        "there_and_back_um": round(judged.consistency_mean_um or 0.0, 1),
        "gene_pcc": round(gene_pcc(moving, fixed, found), 4),
        "seconds": round(seconds, 1),
    }


def gene_pcc(moving: Section, fixed: Section, found: Transform) -> float:
    shared = [gene for gene in fixed.genes if gene in set(moving.genes)]
    mean = fixed.counts(shared).mean(axis=0)
    genes = [shared[i] for i in np.argsort(-mean, kind="stable")[:250]]
    square = ((fixed.um[:, None] - found.apply(moving.um)[None]) ** 2).sum(axis=-1)
    weight = np.exp(-square / (2 * 120.0**2)) + 1e-12
    carried = weight / weight.sum(axis=1, keepdims=True) @ moving.expression(genes, target=1e4)
    return float(np.nanmean(per_gene_pcc(fixed.expression(genes, target=1e4), carried)))


if __name__ == "__main__":
    main()
