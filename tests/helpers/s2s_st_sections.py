"""Sections and settings that the tests of S2S-ST's two variants share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.ndimage import gaussian_filter
from stzoo.core.data.section import Section
from stzoo.core.registry import model
from stzoo.plugins.s2s_st.model import S2SST


def refined(*, seed: int = 0, **options: Any) -> S2SST:
    """The refined variant, untrained, with a few small steps."""
    options = {"steps": 2, "batch": 4, **options}
    found: S2SST = model("s2s-st", {"start": "none", "refined": options}, seed=seed)
    return found


def cdcin(*, seed: int = 0, **options: Any) -> S2SST:
    """The paper's variant, as small as it goes, and with the mask channel, which irregular masks need."""
    shape = {"cascades": 1, "channels": 4, "blocks": 1, "layers": 1, "mask_channel": True}
    train = {"iterations": 2, "batch": 2, "window": 16, "frugal": False}
    tiny = {"network": shape, "train": train, "inference": {"step": 8}}
    found: S2SST = model("s2s-st", {"variant": "cdcin", "cdcin": tiny, **options}, seed=seed)
    return found


VARIANTS = {"refined": refined, "cdcin": cdcin}


def layers(section: Section) -> tuple[np.ndarray, np.ndarray]:
    return section.adata.layers["imputed"], section.adata.layers["confidence"]


def section_of(counts: np.ndarray, row: np.ndarray, col: np.ndarray, measured: np.ndarray, um: bool = True) -> Section:
    obs = pd.DataFrame({"array_row": row, "array_col": col}, index=[f"{a}x{b}" for a, b in zip(row, col, strict=True)])
    obs["measured"] = measured
    adata = AnnData(counts.astype(np.float32), obs=obs, var=pd.DataFrame(index=[f"G{i}" for i in range(len(counts.T))]))
    if um:
        adata.obsm["spatial_um"] = np.stack([col, row], axis=1) * 100.0
    return Section(adata, "drawn")


def patches(rows: int, cols: int, genes: int = 12, seed: int = 0, depth: float = 150.0) -> Section:
    """Genes that follow four random fields, with Poisson counts of uneven depth; stride 2 is measured."""
    rng = np.random.default_rng(seed)
    row, col = (axis.ravel() for axis in np.mgrid[:rows, :cols])
    fields = np.stack([gaussian_filter(rng.normal(size=(rows, cols)), 2.5).ravel() for _ in range(4)])
    fields /= fields.std(axis=1, keepdims=True)
    rate = np.exp(0.5 * rng.normal(size=(genes, 4)) @ fields).T
    mean = rate / rate.sum(axis=1, keepdims=True) * depth * rng.gamma(8, 1 / 8, (len(row), 1))
    return section_of(rng.poisson(mean), row, col, (row % 2 == 0) & (col % 2 == 0))


def hexagonal(rows: int = 16, cols: int = 13, parity: int = 0, first: int = 0, genes: int = 6) -> Section:
    """Visium's array with array coordinates only: row + column has one parity; waves in true distances."""
    row, col = (axis.ravel() for axis in np.mgrid[first : first + rows, : 2 * cols])
    there = (row + col) % 2 == parity
    row, col = row[there], col[there]
    y, x = row * np.sqrt(0.75), col / 2
    angles = np.linspace(0, np.pi, genes, endpoint=False)
    wave = np.sin(2 * np.pi * (np.outer(np.cos(angles), y) + np.outer(np.sin(angles), x)) / 9).T
    rate = np.exp(wave) / np.exp(wave).sum(axis=1, keepdims=True)
    rng = np.random.default_rng(0)
    return section_of(rng.poisson(rate * 800), row, col, rng.random(len(row)) < 0.35, um=False)


def truth_of(section: Section) -> np.ndarray:
    """Expression of all spots, in the units that an imputer of this section uses."""
    whole = Section(section.adata.copy(), "truth")
    del whole.adata.obs["measured"]
    return whole.expression(target=float(np.median(section.depth[section.measured])))
