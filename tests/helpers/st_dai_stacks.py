"""Small synthetic stacks for ST-DAI: sections of one tissue in one frame, the middle one whole, the others sparse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from stzoo.core.data.section import Section, Stack
from stzoo.core.io.synthetic import synthetic_section
from stzoo.core.metrics.correlation import per_gene_pcc
from stzoo.core.registry import model
from stzoo.plugins.st_dai.inputs import StackInputs
from stzoo.plugins.st_dai.model import STDAI

PITCH = 100.0
SHIFTS = ((0.0, 0.0), (35.0, 20.0), (-30.0, 45.0), (10.0, -40.0))
"""Offset of each section's lattice, µm."""
SMALL: dict[str, Any] = {
    "encoder": "none",
    "pseudo": {"components": 6},
    "network": {"width": 16, "depth": 2, "steps": 20, "batch": 32},
    "refine": {"steps": 10},
}


def imputer(seed: int = 0, **options: Any) -> STDAI:
    """Make an imputer with a network of 16 units and few steps; parts of the config are laid over these."""
    config = {key: {**value} if isinstance(value, dict) else value for key, value in SMALL.items()}
    for key, value in options.items():
        config[key] = {**config.get(key, {}), **value} if isinstance(value, dict) else value
    found: STDAI = model("st-dai", config, seed=seed)
    return found


def field(um: np.ndarray, section: int, genes: int, own: float) -> np.ndarray:
    """Log rates (n, g): three waves that all sections share, and a share ``own`` of waves of the section's own."""
    mix = np.random.default_rng(100).normal(size=(3, genes))
    waves = np.random.default_rng(7).uniform(0.4, 1.3, (3, 2)) / 250
    phases = np.random.default_rng(8 + section).uniform(0, 6, 3)
    shared = np.stack([np.sin(um @ wave + i) for i, wave in enumerate(waves)], axis=1)
    alone = np.stack([np.sin(1.5 * um @ wave[::-1] + p) for wave, p in zip(waves, phases, strict=True)], axis=1)
    return np.asarray((shared + own * alone) @ mix)


def full_section(
    number: int,
    rows: int = 10,
    cols: int = 10,
    genes: int = 24,
    *,
    depth: float = 400.0,
    own: float = 0.3,
    sign: float = 1.0,
) -> Section:
    """Draw a section whole: Poisson counts of uneven depth, one spot in fifteen nearly empty.

    With ``sign`` -1 what is high elsewhere is low.
    """
    rng = np.random.default_rng(50 + number)
    row, col = (axis.ravel() for axis in np.mgrid[:rows, :cols])
    um = np.stack([col, row], axis=1) * PITCH + SHIFTS[number]
    rate = np.exp(0.6 * sign * field(um, number, genes, own))
    total = depth * rng.gamma(8, 1 / 8, (len(row), 1))
    total[rng.random(len(row)) < 1 / 15] = 8.0
    counts = rng.poisson(rate / rate.sum(axis=1, keepdims=True) * total).astype(np.float32)
    obs = pd.DataFrame({"array_row": row, "array_col": col}, index=[f"{a}x{b}" for a, b in zip(row, col, strict=True)])
    adata = AnnData(counts, obs=obs, var=pd.DataFrame(index=[f"G{i}" for i in range(genes)]))
    adata.obsm["spatial_um"] = um
    return Section(adata, f"s{number}")


def quarter(section: Section) -> np.ndarray:
    obs = section.adata.obs
    return np.asarray((obs["array_row"] % 2 == 0) & (obs["array_col"] % 2 == 0))


def sparse(section: Section, measured: np.ndarray | None = None) -> Section:
    """Mark a quarter of the spots (or those given) as measured; the hidden counts stay in the data."""
    adata = section.adata.copy()
    adata.obs["measured"] = quarter(section) if measured is None else measured
    return replace(section, adata=adata)


def stack_of(count: int = 3, **options: Any) -> tuple[Stack, list[Section]]:
    """Return a stack, its middle section whole, and the sections as they are in truth."""
    whole = [full_section(i, **options) for i in range(count)]
    middle = (count - 1) // 2
    return Stack(tuple(s if i == middle else sparse(s) for i, s in enumerate(whole))), whole


def stained(side_um: int = 1400) -> Stack:
    """Two sections with slides, of two synthetic tissues that share genes."""
    a, b = (synthetic_section(side_um=side_um, seed=seed, name=f"t{seed}") for seed in (0, 1))
    return Stack((a, sparse(b)))


def scene_of(stack: Stack, **options: Any) -> StackInputs:
    """Gather a stack as the imputer does: hidden counts are gone."""
    hidden = tuple(section.hide(section.measured) for section in stack.sections)
    given = {"encoder": None, "within": True, "components": 6, "seed": 0, **options}
    return StackInputs.of(replace(stack, sections=hidden), [s.expression(target=1e4) for s in hidden], **given)


def layers(stack: Stack, name: str = "imputed") -> list[np.ndarray]:
    return [np.asarray(section.adata.layers[name]) for section in stack.sections]


def same(a: Stack, b: Stack) -> bool:
    """Say whether two filled stacks have the same bits."""
    pairs = [zip(layers(a, name), layers(b, name), strict=True) for name in ("imputed", "confidence")]
    return all(np.array_equal(x, y) for pair in pairs for x, y in pair)


def hidden_pcc(done: Stack, whole: Sequence[Section]) -> float:
    """Return the median correlation over genes on hidden spots, mean over the sparse sections."""
    found = []
    for section, truth in zip(done.sections, whole, strict=True):
        hidden = ~section.measured
        if hidden.any():
            wanted = truth.expression(target=1e4)[hidden]
            found.append(float(np.nanmedian(per_gene_pcc(wanted, section.adata.layers["imputed"][hidden]))))
    return float(np.mean(found))
