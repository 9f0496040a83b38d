"""What the aligners do on real sections: known transforms, neighbouring sections, and DLPFC at any rotation.

Usage: ``OMP_NUM_THREADS=1 python benchmarks/aligners.py [--parts PART,PART] [--paste-python PYTHON] [--quick]``
from the repository root; the data come from ``../shared/data`` (or ``STZOO_SHARED_DATA``). Results are written to
``benchmarks/results/aligners.json``; parts that were not asked for stay there as they were. Every alignment is a
process of its own: seconds are those of the alignment alone, the peak is that of the process.

- ``known``: a section and a moved copy of it. Its counts are split in two by coin tosses, so that each side has noise
  of its own; the copy keeps the very lattice of spots, which no real pair does. ``easy``: turned within 30 degrees and
  shifted. ``hard``: any turn, every other draw mirrored, shear up to 3 %, 60 % of the tissue kept, by a straight cut.
  Where there is an image it is moved by ``Transform.apply_image``, and cut. The error is the distance of each moving
  spot from where the true transform takes it.
- ``pairs``: neighbouring sections. Expression based methods align with one half of the genes (seed 0); scored is the
  other half: correlation over the moving spots with the fixed section (Gaussian mean of the 4 nearest spots, half a
  pitch wide; within 1.5 pitches), mean over the 100 genes of highest mean.
- ``dlpfc``: 151673 onto 151674 after eight seeded turns, plain and mirrored. Agreement of cortical layers: the share of
  moving spots whose nearest fixed spot has the same ``obs["layer"]``, spots without one left out. Labels are used for
  the score alone. ``dlpfc-paste``: PASTE on the same pair, as given and turned by 45 degrees; minutes each.

PASTE is its own package (``paste-bio`` 1.4; it runs with POT 0.9.4, not with 0.9.7), called with its defaults in the
environment of ``--paste-python``, or this one when it is there. Its plan becomes a rigid transform by its own
``stack_slices_pairwise``. It knows no mirroring and no partial overlap: ``easy`` is the part that is fair to it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import stzoo
from scipy.optimize import minimize
from scipy.spatial import cKDTree
from stzoo.core.data.section import Section
from stzoo.core.discovery.manager import default_manager
from stzoo.core.geometry.transform import Transform
from stzoo.core.slides.slide import Slide
from stzoo.core.specs import ModelSpec

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("STZOO_SHARED_DATA", ROOT.parent / "shared" / "data"))
RESULTS = ROOT / "benchmarks" / "results" / "aligners.json"
SECTIONS = {
    **{name: f"her2st::{name}" for name in ("C2", "C3", "C4", "C5")},
    **{f"MOB{i}": f"mob/h5ad/MOB{i}.h5ad" for i in (1, 2, 3)},
    **{f"slice{i}": f"paste_breast::slice{i}" for i in (1, 2, 3, 4)},
    **{name: f"dlpfc/h5ad/{name}.h5ad" for name in ("151673", "151674")},
}
STAINED = ("C2", "C3", "C4", "C5")
KNOWN = ("C4", "C2", "MOB1", "slice2", "151673")
PAIRS = [("C3", "C4"), ("C5", "C4"), ("C2", "C4"), ("MOB1", "MOB2"), ("MOB2", "MOB3")]
PAIRS += [("slice1", "slice2"), ("slice2", "slice3"), ("slice3", "slice4")]
DLPFC = ("151673", "151674")
BY_EXPRESSION = ("ot", "paste")
PASTE_ANGLES = (0.0, 45.0)
PUBLIC = {
    "source": "SABench, Nature Computational Science 2026, result files of its repository, DLPFC pairs; not run here",
    "layer_agreement": {"best (SPACEL)": 0.869, "PASTE2": 0.862, "PASTE": 0.641, "SLAT": 0.512},
}
PASTE_NOTE = (
    "defaults; knows no mirroring and no partial overlap, so rows 'easy' are the fair ones; DLPFC in dlpfc-paste"
)
PASTE = """
import json, sys, time
import numpy as np
from anndata import AnnData
import paste
def slice_of(file):
    held = np.load(file)
    made = AnnData(held["counts"], obsm={"spatial": held["um"]})
    made.var_names = [str(i) for i in range(made.n_vars)]
    return made
fixed, moving = (slice_of(file) for file in sys.argv[1:3])
start, cpu = time.perf_counter(), time.process_time()
pi = paste.pairwise_align(fixed, moving, gpu_verbose=False)
pi = pi[0] if isinstance(pi, tuple) else pi
new = paste.stack_slices_pairwise([fixed, moving], [pi])
seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
lines = open("/proc/self/status").read().splitlines()
peak = int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
print(json.dumps({"seconds": seconds, "cpu": cpu, "peak_kib": peak, "new": [s.obsm["spatial"].tolist() for s in new]}))
"""

Found = dict[str, Any]


def main() -> None:
    """Run the jobs, each in a fresh process, print and write what they found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="known,pairs,dlpfc,dlpfc-paste")
    parser.add_argument("--paste-python", default=sys.executable, help="Python of an environment with paste-bio")
    parser.add_argument("--draws", type=int, default=2, help="draws of known transforms of a section")
    parser.add_argument("--quick", action="store_true", help="one draw of the small sections, to try the script")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--job", help="used by the benchmark itself")
    chosen = parser.parse_args()
    if not DATA.is_dir():
        parser.error(f"no data at {DATA}: set STZOO_SHARED_DATA")
    if chosen.job:
        print(json.dumps(here(json.loads(chosen.job))))
        return
    paste = chosen.paste_python if runs(chosen.paste_python) else None
    result: Found = json.loads(chosen.out.read_text(encoding="utf-8")) if chosen.out.exists() else {}
    result |= {"public_orientation": PUBLIC, "paste": PASTE_NOTE}
    for part in chosen.parts.split(","):
        rows = [told(fresh(job, paste)) for job in PARTS[part](chosen.draws, chosen.quick)]
        result[part] = {"machine": machine(), "rows": rows, "summary": summary(part, rows)}
        if part == "dlpfc":
            result[part]["best_rigid_by_labels"] = ceiling(rows)
        for row in result[part]["summary"]:
            print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
        if not chosen.quick:
            chosen.out.parent.mkdir(parents=True, exist_ok=True)
            chosen.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def aligners(image: bool) -> list[str]:
    """Return the aligners that can be asked: those of the registry, and PASTE."""
    there = {spec.name for _, spec in default_manager().specs_of(ModelSpec)}
    wanted = ["rigid", *(["affine-image"] if image else []), "ot"]
    return [*(name for name in wanted if name in there), "paste"]


def known_jobs(draws: int, quick: bool) -> Iterator[Found]:
    for case in ("slice2",) if quick else KNOWN:
        for kind in ("easy", "hard"):
            for draw in range(1 if quick else draws):
                for aligner in aligners(case in STAINED):
                    if aligner == "paste" and case in DLPFC:
                        continue  # minutes each: see dlpfc-paste
                    yield {"part": "known", "case": case, "kind": kind, "draw": draw, "aligner": aligner}


def pair_jobs(draws: int, quick: bool) -> Iterator[Found]:
    for moving, fixed in PAIRS[-1:] if quick else PAIRS:
        for aligner in ("identity", *aligners(moving in STAINED)):
            yield {"part": "pairs", "case": f"{moving} -> {fixed}", "pair": [moving, fixed], "aligner": aligner}


def dlpfc_jobs(draws: int, quick: bool) -> Iterator[Found]:
    """As given, and eight turns, one in each eighth of the circle, plain and mirrored."""
    job = {"part": "dlpfc", "case": "151673 -> 151674", "pair": list(DLPFC)}
    turns = np.random.default_rng(0).uniform(0, 45, 8) + np.arange(0, 360, 45)
    for aligner in ("identity", "rigid", "ot"):
        yield {**job, "aligner": aligner, "angle": 0.0, "flip": False}
    for angle in turns[:1] if quick else turns:
        for flip in (False, True):
            yield {**job, "aligner": "ot", "angle": round(float(angle), 1), "flip": flip}


def paste_jobs(draws: int, quick: bool) -> Iterator[Found]:
    """PASTE on the same pair as it is given and turned: minutes each."""
    for angle in PASTE_ANGLES:
        job = {"part": "dlpfc", "case": "151673 -> 151674", "pair": list(DLPFC)}
        yield {**job, "aligner": "paste", "angle": angle, "flip": False}


PARTS = {"known": known_jobs, "pairs": pair_jobs, "dlpfc": dlpfc_jobs, "dlpfc-paste": paste_jobs}


def here(job: Found) -> Found:
    """Do one job in this process."""
    moving, fixed, truth = known(job) if job["part"] == "known" else pair(job)
    rng = np.random.default_rng(0)
    there = set(fixed.genes)
    shared = sorted(gene for gene in moving.genes if gene in there)
    halves = np.array_split(rng.permutation(np.array(shared, dtype=object)), 2)
    asked = halves[0] if job["part"] == "pairs" else np.array(shared, dtype=object)
    narrow = (moving.take_genes(list(asked)), fixed.take_genes(list(asked)))
    found, cost = aligned(job["aligner"], *(narrow if job["aligner"] in BY_EXPRESSION else (moving, fixed)), job)
    if truth is not None:
        error = np.linalg.norm(found.apply(moving.um) - truth.apply(moving.um), axis=1)
        half = pitch(fixed) / 2
        return {
            **cost,
            "error_um": round(float(error.mean()), 1),
            "within_half_pitch": round(float((error < half).mean()), 4),
        }
    score, share = gene_pcc(moving, fixed, found, list(halves[1] if job["part"] == "pairs" else asked))
    scored = {**cost, "gene_pcc": round(score, 4), "share_scored": round(share, 3)}
    if job["part"] == "dlpfc":
        scored |= {"layer_agreement": round(agreement(moving, fixed, found), 4), "matrix": found.matrix.tolist()}
    return scored


def aligned(name: str, moving: Section, fixed: Section, job: Found) -> tuple[Transform, Found]:
    """Return a transform, and what it cost."""
    if name == "paste":
        return paste_aligned(moving, fixed, job["paste"])
    start, cpu = time.perf_counter(), time.process_time()
    found = Transform.identity() if name == "identity" else stzoo.model(name, role="aligner").align(moving, fixed)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return found, {"seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2), "peak_mib": round(high_water() / 1024)}


def paste_aligned(moving: Section, fixed: Section, python: str) -> tuple[Transform, Found]:
    """Align with PASTE's own package; its two sets of moved coordinates give the transform."""
    genes = moving.genes
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{i}.npz" for i in (0, 1)]
        for file, section in zip(files, (fixed, moving), strict=True):
            np.savez(file, counts=section.counts(genes), um=section.um)
        command = [python, "-W", "ignore", "-c", PASTE, *map(str, files)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"PASTE: {done.stderr.strip().splitlines()[-1]}")
    out = json.loads(done.stdout.splitlines()[-1])
    to_common = [fitted(s.um, np.array(new)) for s, new in zip((fixed, moving), out["new"], strict=True)]
    cost = {
        "seconds": round(out["seconds"], 2),
        "cpu_seconds": round(out["cpu"], 2),
        "peak_mib": round(out["peak_kib"] / 1024),
    }
    return to_common[1].then(to_common[0].inverse()), cost


def fitted(source: np.ndarray, target: np.ndarray) -> Transform:
    """Return the affine transform that takes some points to others (exactly, where there is one)."""
    return Transform(np.linalg.lstsq(np.column_stack([source, np.ones(len(source))]), target, rcond=None)[0].T)


def known(job: Found) -> tuple[Section, Section, Transform]:
    """Return a section, a moved copy of it, and the transform between them."""
    rng = np.random.default_rng([KNOWN.index(job["case"]), job["draw"]])
    whole, hard = section(job["case"]), job["kind"] == "hard"
    counts = np.nan_to_num(whole.counts())
    half = rng.binomial(counts.astype(np.int64), 0.5).astype(np.float32)
    angle = rng.uniform(0, 360) if hard else rng.uniform(-30, 30)
    middle = whole.um.mean(axis=0)
    shear = np.eye(2) + rng.uniform(-0.03, 0.03, (2, 2)) * hard
    truth = Transform(np.column_stack([shear, middle - shear @ middle])).then(
        Transform.rigid(
            angle, tuple(rng.uniform(-300, 300, 2)), flip=hard and job["draw"] % 2 == 1, centre=tuple(middle)
        )
    )
    way = rng.normal(size=2)
    along = (whole.um - middle) @ way
    edge = np.quantile(along, 0.4) if hard else -np.inf
    moving, fixed = with_counts(whole, counts - half), with_counts(whole, half)
    if job["case"] not in STAINED:
        fixed.adata.obsm["spatial_um"] = truth.apply(whole.um)
        return replace(moving, slide=None), replace(fixed, slide=None).take(along >= edge), truth
    mpp = 8.0
    pixels, scale = whole.require_slide().thumbnail(round(whole.require_slide().width * (whole.mpp or 1) / mpp))
    mpp = (whole.mpp or 1.0) / scale
    down, right = np.mgrid[: pixels.shape[0], : pixels.shape[1]] + 0.5
    gone = (np.stack([right, down], axis=-1) * mpp - middle) @ way < edge
    cut = np.where(gone[..., None], np.uint8(255), pixels)
    side = round(1.6 * max(pixels.shape[:2]))
    into = Transform(np.column_stack([np.eye(2), np.full(2, side * mpp / 2) - truth.apply(middle[None])[0]]))
    truth = truth.then(into)
    slide = Slide.from_array(truth.apply_image(cut, mpp=mpp, shape=(side, side)), mpp=mpp)
    fixed.adata.obsm["spatial"] = truth.apply(whole.um) / mpp
    fixed.adata.obsm.pop("spatial_um", None)
    return moving, replace(fixed, slide=slide, mpp=mpp).take(along >= edge), truth


def pair(job: Found) -> tuple[Section, Section, None]:
    """Return two sections, the first one turned where the job says so."""
    moving, fixed = (section(name) for name in job["pair"])
    if "angle" in job:
        turn = Transform.rigid(job["angle"], flip=job["flip"], centre=tuple(moving.um.mean(axis=0)))
        moving = replace(moving, adata=moving.adata.copy(), slide=None)
        moving.adata.obsm["spatial_um"] = turn.apply(moving.um)
        fixed = replace(fixed, slide=None)
    return moving, fixed, None


def section(name: str) -> Section:
    """Read a section, its spots under tissue alone."""
    found = stzoo.read(
        str(DATA / SECTIONS[name].split("::")[0]) + "".join(f"::{s}" for s in SECTIONS[name].split("::")[1:])
    )
    if "in_tissue" in found.adata.obs:
        found = found.take(np.asarray(found.adata.obs["in_tissue"]).astype(bool))
    return found if name in STAINED else replace(found, slide=None)


def with_counts(whole: Section, counts: np.ndarray) -> Section:
    adata = whole.adata.copy()
    adata.X = counts
    return replace(whole, adata=adata)


def pitch(of: Section) -> float:
    return float(np.median(cKDTree(of.um).query(of.um, k=2)[0][:, 1]))


def gene_pcc(moving: Section, fixed: Section, found: Transform, genes: list[str]) -> tuple[float, float]:
    """Return the mean correlation of the 100 genes of highest mean, and the share of spots it was over."""
    ours, theirs = (s.expression(genes, target=1e4) for s in (moving, fixed))
    high = np.argsort(-(ours.mean(axis=0) + theirs.mean(axis=0)), kind="stable")[:100]
    wide = pitch(fixed)
    distance, index = cKDTree(fixed.um).query(found.apply(moving.um), k=4)
    weight = np.exp((distance[:, :1] ** 2 - distance**2) / (2 * (wide / 2) ** 2))
    weight /= weight.sum(axis=1, keepdims=True)
    near = distance[:, 0] < 1.5 * wide
    if near.sum() < 3:
        return float("nan"), float(near.mean())
    a, b = ours[near][:, high], (theirs[index][..., high] * weight[..., None]).sum(axis=1)[near]
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    return float(np.nanmean((a * b).sum(axis=0) / np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0)))), float(near.mean())


def agreement(moving: Section, fixed: Section, found: Transform) -> float:
    """Return the share of moving spots whose nearest fixed spot is of the same layer."""
    ours, theirs = (s.adata.obs["layer"] for s in (moving, fixed))
    nearest = cKDTree(fixed.um).query(found.apply(moving.um))[1]
    named = ours.notna().to_numpy() & theirs.notna().to_numpy()[nearest]
    return float((ours.astype(str).to_numpy()[named] == theirs.astype(str).to_numpy()[nearest][named]).mean())


def ceiling(rows: list[Found]) -> Found:
    """Return the best agreement that a rigid transform near the one found reaches: it is found by the labels."""
    start = next(row["matrix"] for row in rows if row["aligner"] == "ot" and row["angle"] == 0)
    moving, fixed, _ = pair({"pair": list(DLPFC)})
    middle = tuple(moving.um.mean(axis=0))

    def at(step: np.ndarray) -> float:
        near = Transform.rigid(step[0] / 40, tuple(step[1:]), centre=middle).then(Transform(np.array(start)))
        return -agreement(moving, fixed, near)

    simplex = np.vstack([np.zeros(3), 100 * np.eye(3)])
    best = minimize(at, np.zeros(3), method="Nelder-Mead", options={"initial_simplex": simplex, "maxfev": 300})
    return {"layer_agreement": round(-best.fun, 4), "what": "sought with the labels themselves: no result of a method"}


def summary(part: str, rows: list[Found]) -> list[Found]:
    """Return means over draws or turns."""
    made: dict[tuple[str, ...], list[Found]] = {}
    for row in rows:
        group = (row["case"], row.get("kind", ""), row["aligner"])
        if part.startswith("dlpfc"):
            group = (row["case"], "as given" if row["angle"] == 0 else "turned", row["aligner"])
        made.setdefault(group, []).append(row)
    out = []
    for (case, kind, aligner), group in made.items():
        line: Found = {"case": case, **({"kind": kind} if kind else {}), "aligner": aligner, "runs": len(group)}
        if "not_run" in group[0]:
            out.append({**line, "not_run": group[0]["not_run"]})
            continue
        for key in ("error_um", "within_half_pitch", "gene_pcc", "layer_agreement", "seconds", "cpu_seconds"):
            values = [row[key] for row in group if key in row]
            if values:
                line[key] = round(float(np.mean(values)), 4)
        if "error_um" in group[0]:
            line["median_error_um"] = round(float(np.median([row["error_um"] for row in group])), 1)
        if "layer_agreement" in group[0]:
            line["least_layer_agreement"] = min(row["layer_agreement"] for row in group)
        out.append({**line, "peak_mib": max(row["peak_mib"] for row in group)})
    return out


def fresh(job: Found, paste: str | None) -> Found:
    """Do a job in a fresh process."""
    if job["aligner"] == "paste" and paste is None:
        return {**job, "not_run": "paste-bio is not installed: --paste-python"}
    command = [sys.executable, "-W", "ignore", __file__, "--job", json.dumps({**job, "paste": paste})]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {**job, "not_run": done.stderr.strip().splitlines()[-1]}
    return {**job, **json.loads(done.stdout.splitlines()[-1])}


def runs(python: str) -> bool:
    """Say whether PASTE can be imported by a Python."""
    return subprocess.run([python, "-c", "import paste"], stderr=subprocess.DEVNULL, check=False).returncode == 0


def told(row: Found) -> Found:
    print(
        "  ".join(f"{key} {value}" for key, value in row.items() if key not in ("part", "pair", "matrix")), flush=True
    )
    return row


def machine() -> Found:
    """Say where it ran."""
    threads, load = os.environ.get("OMP_NUM_THREADS", "default"), round(os.getloadavg()[0], 2)
    return {"cpus": os.cpu_count(), "processor": platform.machine(), "threads": threads, "load": load}


def high_water() -> int:
    """Return the peak resident memory of this process, KiB (getrusage would count the parent's too)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


if __name__ == "__main__":
    main()
