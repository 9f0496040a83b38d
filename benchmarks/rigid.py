"""How well the aligner ``rigid`` finds known turns and mirrorings of real sections.

Run ``python benchmarks/rigid.py --data ../shared/data`` in an environment with stzoo; it writes
``benchmarks/results/rigid.json``. Each section is turned by every angle, as it is and mirrored, and shifted:

- ``paste_breast::slice1`` (254 spots, no image), whole, and with a fifth and three tenths of the fixed section cut off;
- ``her2st::C4`` by its H&E image, resampled at 7.6 µm/px.

The error is the distance of each spot from where the true transform takes it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
from anndata import AnnData
from stzoo.core.data.section import Section
from stzoo.core.geometry.transform import Transform
from stzoo.core.io.read import read
from stzoo.core.slides.slide import Slide
from stzoo.plugins.baselines.aligners.rigid import Rigid

RESULTS = Path(__file__).parent / "results" / "rigid.json"
Pair = tuple[Section, Section, Transform]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--step", type=float, default=30.0, help="degrees between the angles tried")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    turns = [(float(a), flip) for flip in (False, True) for a in np.arange(0, 360, options.step) + 7.0]
    spots, stained = read(f"{options.data / 'paste_breast'}::slice1"), read(f"{options.data / 'her2st'}::C4")
    rows = [measure(f"paste slice1, {cut:.0%} cut off", [cut_pair(spots, *turn, cut) for turn in turns])
            for cut in (0.0, 0.2, 0.3)]  # fmt: skip
    rows.append(measure("her2st C4 image", [image_pair(stained, *turn) for turn in turns]))
    machine = {"python": platform.python_version(), "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2)}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))


def measure(name: str, pairs: list[Pair]) -> dict[str, Any]:
    errors, seconds = [], []
    for moving, fixed, truth in pairs:
        start = time.perf_counter()
        found = Rigid().align(moving, fixed)
        seconds.append(time.perf_counter() - start)
        errors.append(np.linalg.norm(found.apply(moving.um) - truth.apply(moving.um), axis=1))
    all_errors = np.concatenate(errors)
    return {
        "case": name,
        "runs": len(pairs),
        "mean_um": round(float(all_errors.mean()), 2),
        "worst_um": round(float(all_errors.max()), 2),
        "within_half_pitch": round(float((all_errors < 100).mean()), 4),
        "median_s": round(float(np.median(seconds)), 2),
    }


def cut_pair(section: Section, angle: float, flip: bool, cut: float) -> Pair:
    truth = Transform.rigid(angle, (700.0, -300.0), flip=flip)
    left = section.um[:, 0]
    kept = section.um[left >= np.quantile(left, cut)]
    return section, placed(truth.apply(kept)), truth


def image_pair(section: Section, angle: float, flip: bool) -> Pair:
    pixels, scale = section.require_slide().thumbnail(900)
    mpp = (section.mpp or 0.0) / scale
    middle = (pixels.shape[1] * mpp / 2, pixels.shape[0] * mpp / 2)
    truth = Transform.rigid(angle, (2300.0, 2700.0), flip=flip, centre=middle)
    turned = truth.apply_image(pixels, mpp=mpp, shape=(1560, 1560))
    return section, placed(truth.apply(section.um), Slide.from_array(turned, mpp=mpp), mpp), truth


def placed(um: np.ndarray[Any, Any], slide: Slide | None = None, mpp: float | None = None) -> Section:
    place = {"spatial_um": um} if mpp is None else {"spatial": um / mpp}
    return Section(AnnData(np.ones((len(um), 1), dtype=np.float32), obsm=place), "turned", slide=slide, mpp=mpp)


if __name__ == "__main__":
    main()
