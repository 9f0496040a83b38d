"""What does the text about a gene say of where it is expressed? For genes whose whole family is left out.

``python benchmarks/gene_text.py --data FOLDER`` (it holds her2st, gene_text) writes benchmarks/results/gene_text.json.
No image and no CoMTIP: expression of sections C2, C3 and C4 (1,000 genes of highest mean) is reduced to ten principal
components; a gene's loadings are then predicted from its text by ridge, ten folds of whole families (first letters of
symbols), and the map they give is correlated with the gene's own. ``common map`` predicts the mean loadings for every
gene: what a text has to beat. The components were fitted with the held-out genes too, so read the rows against one
another. The penalty is the best of four for each row. The sentence encoder is the extra ``text``.
"""

from __future__ import annotations

import argparse
import json
import re
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import stzoo
from stzoo.core.errors import StzooError
from stzoo.core.metrics.correlation import per_gene_pcc
from stzoo.plugins.comtip.data import choose_training_genes
from stzoo.plugins.comtip.vocabulary import embed_sentences, load_packaged_descriptions

RESULTS = Path(__file__).parent / "results" / "gene_text.json"
COMPONENTS, FOLDS, PENALTIES = 10, 10, (1.0, 3.0, 10.0, 30.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    sections = [stzoo.read(f"{options.data}/her2st::{name}") for name in ("C2", "C3", "C4")]
    genes = choose_training_genes(sections, 0.1, 1000)
    y = np.concatenate([s.expression(genes, target=1e4) for s in sections]).astype(np.float64)
    z = (y - y.mean(axis=0)) / (y.std(axis=0) + 1e-6)
    left, sizes, right = np.linalg.svd(z, full_matrices=False)
    maps, loadings = left[:, :COMPONENTS] * sizes[:COMPONENTS], right[:COMPONENTS].T
    families = [re.match("[A-Za-z]*", gene).group()[:4] for gene in genes]  # type: ignore[union-attr]
    fold = np.array([zlib.crc32(family.encode()) % FOLDS for family in families])
    rows = [score("common map (control)", np.zeros((len(genes), 1)), z, maps, loadings, fold)]
    rows += [score(name, x, z, maps, loadings, fold) for name, x in texts(genes, options.data)]
    rows.append({"text": "own loadings (ceiling)", "pcc_mean": round(mean_pcc(z, maps @ loadings.T), 4)})
    for row in rows:
        print(f"{row['text']:44s} {row['pcc_mean']:.4f}")
    options.out.write_text(json.dumps({"genes": len(genes), "rows": rows}, indent=1) + "\n", encoding="utf-8")


def texts(genes: list[str], data: Path) -> Iterable[tuple[str, np.ndarray[Any, Any]]]:
    import pandas as pd

    table = pd.read_csv(data / "gene_text/ncbi_human_protein_coding.tsv.gz", sep="\t", keep_default_na=False, quoting=3)
    rows = {row.symbol: row for row in table.itertuples()}
    found = [rows.get(gene) for gene in genes]
    name = [row.name if row else "" for row in found]
    other = [f"{row.aliases}; {row.other_designations}" if row else "" for row in found]
    yield "symbol, character n-grams", hashed(re.findall("(?=(.{1,4}))", f"^{gene}$") for gene in genes)
    yield "full name, words", hashed(re.findall("[a-z0-9]+", text.lower()) for text in name)
    both = [f"{a} {b}".lower() for a, b in zip(name, other, strict=True)]
    yield "full name, aliases, designations, words", hashed(re.findall("[a-z0-9]+", text) for text in both)
    yield "packaged table (sentence encoder, 64 numbers)", load_packaged_descriptions().vectors(genes)
    try:
        yield "symbol, sentence encoder", embed_sentences(genes)
        yield "full name, sentence encoder", embed_sentences(name)
        whole = [f"{a} ({gene}); {b}" for a, gene, b in zip(name, genes, other, strict=True)]
        yield "full name, symbol, aliases, designations, s.e.", embed_sentences(whole)
    except StzooError as error:
        print(f"not run: {error}")


def hashed(texts: Iterable[list[str]], width: int = 2048) -> np.ndarray[Any, Any]:
    """Return unit rows of signed counts of hashed pieces."""
    rows = []
    for pieces in texts:
        row = np.zeros(width)
        for piece in pieces:
            number = zlib.crc32(piece.encode())
            row[number % width] += 1 if number >> 16 & 1 else -1
        rows.append(row / max(np.linalg.norm(row), 1e-9))
    return np.array(rows)


def score(name: str, x: np.ndarray[Any, Any], z: Any, maps: Any, loadings: Any, fold: Any) -> dict[str, Any]:
    """Return the best mean correlation over penalties, every family predicted from the others."""
    x = x / max(float(np.linalg.norm(x, axis=1).mean()), 1e-9)
    best = 0.0
    for penalty in PENALTIES:
        guess = np.zeros_like(loadings)
        for part in range(FOLDS):
            train, test = fold != part, fold == part
            middle = loadings[train].mean(axis=0)
            gram = x[train] @ x[train].T + penalty * np.eye(int(train.sum()))
            guess[test] = x[test] @ x[train].T @ np.linalg.solve(gram, loadings[train] - middle) + middle
        best = max(best, mean_pcc(z, maps @ guess.T))
    return {"text": name, "pcc_mean": round(best, 4)}


def mean_pcc(truth: Any, predicted: Any) -> float:
    return float(np.nan_to_num(per_gene_pcc(truth, predicted)).mean())


if __name__ == "__main__":
    main()
