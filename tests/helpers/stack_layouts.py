"""A small stack: three sections of one synthetic tissue, each counted anew, in a folder with a stack file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix
from stzoo.core.data.section import Section
from stzoo.core.io.synthetic import synthetic_section
from stzoo.core.io.write import write

NAMES = ("A", "B", "C")
YAML = """\
sample: tissue
spacing_um: 20
sections:
  - name: A
    source: data::A
    measured: grid:2
  - name: B
    source: data::B
    measured: all
  - name: C
    source: data::C
    measured: grid:2+1,1
"""
"""``source`` of A, B, C stand on lines 5, 8, 11; ``measured`` one line below."""


def recounted(base: Section, name: str, seed: int, shift_um: float = 0.0) -> Section:
    """Return the tissue as another section of it: other counts, moved by a little, no slide."""
    adata = base.adata.copy()
    counts = np.random.default_rng(seed).poisson(adata.X.toarray()).astype(np.float32)
    adata.X = csr_matrix(counts)
    adata.obsm["spatial"] = adata.obsm["spatial"] + shift_um
    return replace(base, adata=adata, name=name, slide=None)


def sections(side_um: int = 1800) -> list[Section]:
    base = synthetic_section(side_um=side_um, seed=5)
    corner = (base.adata.obs["array_row"] > 2) & (base.adata.obs["array_col"] > 4)
    base = base.take(~corner.to_numpy())  # a tissue that looks the same from no two sides
    return [recounted(base, name, seed, 40.0 * seed) for seed, name in enumerate(NAMES)]


def stack_folder(folder: Path, text: str = YAML, side_um: int = 1800) -> Path:
    """Write ``data/A.h5ad`` ... and ``stack.yaml``; return the stack file."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for section in sections(side_um):
        write(section, folder / "data" / f"{section.name}.h5ad")
    file = folder / "stack.yaml"
    file.write_text(text, encoding="utf-8")
    return file
