"""Train the refiner of S2S-ST on photographs, and write it as weights.

Usage: ``python benchmarks/s2s_st_pretrain.py OUT --images FOLDER [FOLDER ...] [--held-out FOLDER]``. The weights in the
package came from ``--images ../shared/data/natural/skimage_gray ../shared/data/natural/kodak24_gray``: 41 photographs
that may be used freely; their pixels are not in the package. ``--held-out`` scores other photographs before and after.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from stzoo.core.training.loop import fit
from stzoo.plugins.s2s_st.images import NaturalImages
from stzoo.plugins.s2s_st.model import S2SST
from stzoo.plugins.s2s_st.refined.photograph_training import MaskedGrid, PhotographTask, make_examples
from stzoo.plugins.s2s_st.refined.refiner import Refiner


def score(refiner: Refiner, images: NaturalImages) -> tuple[float, float]:
    """Return the mean squared error at hidden places of the start and of the refined map, over 8 masks."""
    found = []
    for number in range(8):
        rng = np.random.default_rng(10_000 + number)
        x, target, hidden = make_examples(images, MaskedGrid.draw(rng), 32, rng)
        with torch.inference_mode():
            refined = x[:, 0] + refiner.average_mirrored(x)
        found.append([float(((m - target) ** 2)[:, hidden].mean()) for m in (x[:, 0], refined)])
    before, after = np.mean(found, axis=0)
    return float(before), float(after)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=Path, nargs="+", required=True)
    parser.add_argument("--held-out", type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    images = NaturalImages.of([image for folder in chosen.images for image in NaturalImages.read(folder).images])
    torch.manual_seed(chosen.seed)
    model = S2SST({"start": "none"}, seed=chosen.seed)
    task = PhotographTask(
        model.refiner, images, steps=chosen.steps, batch=chosen.batch, learning_rate=2e-3, seed=chosen.seed
    )
    run = {"images": images.digest, "steps": chosen.steps, "batch": chosen.batch}
    done = fit(
        task,
        out=chosen.out / "run",
        steps=chosen.steps,
        seed=chosen.seed,
        resume=True,
        config=run,
    )
    model.trained_on = {"photographs": len(images.images), "digest": images.digest, "steps": chosen.steps}
    print("last step", {name: round(value, 4) for name, value in done.losses.items()})
    if chosen.held_out:
        before, after = score(model.refiner, NaturalImages.read(chosen.held_out))
        print(f"held-out photographs: squared error {before:.4f} of the start, {after:.4f} refined")
        model.trained_on["held_out"] = {"start": round(before, 4), "refined": round(after, 4)}
    model.save(chosen.out / "weights", card=CARD, overwrite=True)


CARD = """# s2s-st-natural

The refiner of S2S-ST's `refined` variant (ours, not the paper's): 38,000 weights that correct kriged maps.
Trained by `benchmarks/s2s_st_pretrain.py` on 41 gray photographs (scikit-image's and scikit-learn's own, and the Kodak
set), noised, hidden but for a sparse mask and kriged. No tissue was seen. The photographs are not part of the weights.

- Use: `stzoo impute SECTION --model s2s-st`, which loads it by itself.
- Limits: it knows one map at a time, on a lattice; how much it gives is in docs/imputing.md.
- Licence: Apache-2.0. The authors of the paper (arXiv 2507.16886) published no weights that we know of.
"""

if __name__ == "__main__":
    main()
