"""A volume as one HTML page that works without a network: a gene picker, depth to scale or stretched, hover."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from stzoo.core.data.section import Section
from stzoo.core.errors import PluginError, UsageError
from stzoo.core.io.volume import COMMON, Volume, is_interpolated
from stzoo.core.runtime.outputs import writing

MOST_GENES = 30
"""Genes of a page at most: each costs about ten bytes a spot."""
_SUFFIXES = (".html", ".htm")


def check_page(path: str | Path) -> Path:
    """Refuse, before any work, a page that can not be made.

    Raises
    ------
    UsageError
        The name does not end in .html.
    PluginError
        Plotly is not installed.
    """
    from importlib.util import find_spec

    path = Path(path)
    if path.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"'{path.name}' is no page", todo="write to NAME.html")
    if find_spec("plotly") is None:
        raise PluginError("pages need plotly, which is not installed", todo="pip install 'stzoo[page]'")
    return path


def write_page(volume: Volume, genes: Sequence[str], path: str | Path, *, overwrite: bool = False) -> Path:
    """Write the page.

    Parameters
    ----------
    genes
        Genes to choose from, at most :data:`MOST_GENES`. Values are rounded to two decimals.

    Raises
    ------
    UsageError
        Too many genes, or another suffix.
    PluginError
        Plotly is not installed.
    """
    path = check_page(path)
    if len(genes) > MOST_GENES:
        raise UsageError(f"{len(genes)} genes on one page, at most {MOST_GENES}", todo="name fewer: --genes ERBB2,CD74")
    from plotly.offline import get_plotlyjs

    template = (files("stzoo.core.plotting") / "volume_page.html").read_text(encoding="utf-8")
    head, rest = template.split("/*PLOTLY*/")
    middle, tail = rest.split("/*DATA*/")
    # in a script "</" would end it, and JSON may not hold the characters as they are
    data = json.dumps(page_data(volume, genes), separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    with writing(path, overwrite=overwrite) as scratch:
        scratch.write_text(f"{head}{get_plotlyjs()}{middle}{data}{tail}", encoding="utf-8")
    return path


def page_data(volume: Volume, genes: Sequence[str]) -> dict[str, Any]:
    """Return what the page draws, as JSON values.

    Returns
    -------
    ``sample``, ``model``, ``genes``, ``limits`` (for each gene low and high of the colours) and ``planes``: ``name``,
    ``z``, ``interpolated``, ``share`` measured, ``x``, ``y`` (µm, common frame), ``barcodes``, ``measured`` (0 or 1),
    and for each gene ``values`` and ``confidence``.
    """
    central = volume.stack.sections[volume.central].adata.uns.get("stzoo", {})
    planes = [_plane(s, z, genes) for s, z in zip(volume.stack.sections, volume.stack.z_um, strict=True)]
    limits = []
    for i in range(len(genes)):
        low, high = np.percentile(np.concatenate([plane["values"][i] for plane in planes]), [2, 98])
        limits.append([round(float(low), 2), round(max(float(high), float(low) + 0.01), 2)])
    return {
        "sample": volume.sample,
        "model": str(central.get("imputed", {}).get("model", "")),
        "genes": list(genes),
        "limits": limits,
        "planes": planes,
    }


def _plane(section: Section, z: float, genes: Sequence[str]) -> dict[str, Any]:
    columns, um = section.gene_index(genes), section.adata.obsm[COMMON]
    values, trust = (_round(section.adata.layers[key][:, columns].T, 2) for key in ("imputed", "confidence"))
    return {
        "name": section.name,
        "z": round(float(z), 2),
        "interpolated": is_interpolated(section),
        "share": round(float(section.measured.mean()), 3),
        "x": _round(um[:, 0], 1),
        "y": _round(um[:, 1], 1),
        "barcodes": [str(name) for name in section.adata.obs_names],
        "measured": section.measured.astype(int).tolist(),
        "values": values,
        "confidence": trust,
    }


def _round(values: Any, digits: int) -> Any:
    return np.round(np.asarray(values, dtype=np.float64), digits).tolist()
