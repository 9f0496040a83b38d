"""Predict a section and lay the result beside what was measured: an AnnData, a picture, a line a gene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from stzoo.core.arrays import Floats
from stzoo.core.data.section import PER_10K, Section
from stzoo.core.encoder import Encoder, Prediction
from stzoo.core.errors import UsageError
from stzoo.core.io.write import write
from stzoo.core.metrics.correlation import per_gene_pcc
from stzoo.core.model import provenance_of
from stzoo.core.runtime.progress import Progress

SHOWN = 6
"""Genes of a picture at most."""


@dataclass(frozen=True)
class Predicted:
    """A predicted section.

    Parameters
    ----------
    section
        Spots x predicted genes: ``layers["predicted"]`` (log1p of counts per 10,000), ``layers["uncertainty"]`` where
        the head gives one; where counts are known, ``X`` holds them and ``layers["measured"]`` the same scale (genes
        that were not measured are NaN). ``uns["stzoo"]`` tells what predicted it.
    prediction
        As the model gave it.
    measured
        float32 (n, g), NaN where unknown.
    """

    section: Section
    prediction: Prediction
    measured: Floats

    @property
    def pcc(self) -> Floats:
        """Pearson correlation with the measured values over spots, float32 (g,), NaN where nothing was measured."""
        out = np.full(len(self.prediction.genes), np.nan, dtype=np.float32)
        spots = np.isfinite(self.measured).any(axis=1)
        for i in np.flatnonzero(np.isfinite(self.measured).any(axis=0)):
            rows = spots & np.isfinite(self.measured[:, i])
            out[i] = per_gene_pcc(self.measured[rows, i : i + 1], self.prediction.values[rows, i : i + 1])[0]
        return out

    def lines(self) -> list[str]:
        """Return one line for each of the first genes, and the mean."""
        return pcc_lines(self.prediction.genes, self.pcc)

    def write(self, out: str | Path, plot: str | Path | None = None, *, overwrite: bool = False) -> None:
        """Write the section, and the picture of its first genes if asked."""
        if plot is not None:
            known = self.measured[:, :SHOWN] if np.isfinite(self.measured).any() else None
            draw(self.section, self.prediction, known, self.pcc, plot, overwrite=overwrite)
        write(self.section, out, overwrite=overwrite)


def predict_section(
    encoder: Encoder,
    section: Section,
    genes: Sequence[str] | None = None,
    *,
    head: str | None = None,
    reference: Sequence[Section] = (),
    batch_size: int = 64,
    progress: Progress | None = None,
) -> Predicted:
    """Predict a section from its image.

    Parameters
    ----------
    encoder
        A model with weights.
    genes
        Genes wanted; by default all that the head knows.
    reference
        Measured sections on which the head is fitted first (needed for ``retrieval``).

    Raises
    ------
    UsageError
        The model is no encoder, or the section itself is its own reference.
    """
    prepare(encoder, section, genes, head, reference)
    prediction = encoder.predict(section.without_counts(), genes, head=head, batch_size=batch_size, progress=progress)
    return _beside(section, prediction, encoder)


def prepare(
    encoder: Encoder, section: Section, genes: Sequence[str] | None, head: str | None, reference: Sequence[Section]
) -> None:
    """Check the model, and fit its head where there are reference sections (see :func:`predict_section`)."""
    if not isinstance(encoder, Encoder):
        raise UsageError(f"'{encoder.name}' is no encoder, so it can not predict", todo="see 'stzoo zoo list'")
    if any(one.source == section.source for one in reference):
        raise UsageError(f"{section.source} can not be its own reference", todo="give another section")
    if reference:
        encoder.fit(reference, genes, head=encoder.check_head(head))


def pcc_lines(genes: Sequence[str], pcc: Floats) -> list[str]:
    """Say how well each of the first genes was predicted, and all on average (NaN: not measured)."""
    lines = [
        f"{gene}: PCC {value:.2f}" if np.isfinite(value) else f"{gene}: not measured, nothing to compare with"
        for gene, value in list(zip(genes, pcc, strict=True))[:SHOWN]
    ]
    if len(genes) > SHOWN and np.isfinite(pcc).any():
        lines.append(f"mean PCC over {int(np.isfinite(pcc).sum())} measured genes: {np.nanmean(pcc):.3f}")
    return lines


def draw(
    section: Section,
    prediction: Prediction,
    measured: Floats | None,
    pcc: Floats,
    plot: str | Path,
    *,
    overwrite: bool = False,
) -> None:
    """Draw the slide and the maps of the first genes, measured (where they are) and predicted."""
    from stzoo.core.plotting.maps import plot_genes

    maps = [("predicted", prediction.values[:, :SHOWN])]
    if measured is not None:
        maps.insert(0, ("measured", measured))
    notes = [f"(PCC {v:.2f})" if np.isfinite(v) else "" for v in pcc[:SHOWN]]
    title = f"{section.name}: {section.adata.uns['stzoo']['predicted']['model']}, {prediction.head}"
    plot_genes(section, prediction.genes[:SHOWN], maps, plot, notes=notes, title=title, overwrite=overwrite)


def frame(section: Section, encoder: Encoder, genes: Sequence[str], head: str) -> Section:
    """Return the section with the predicted genes as its columns, and nothing in them yet."""
    from anndata import AnnData

    places = {key: section.adata.obsm[key] for key in ("spatial", "spatial_um") if key in section.adata.obsm}
    adata = AnnData(obs=section.adata.obs.copy(), obsm=places, shape=(section.n_spots, len(genes)))
    adata.var_names = list(genes)
    adata.uns["stzoo"] = {"predicted": {**provenance_of(encoder), "head": head}}
    return replace(section, adata=adata)


def _beside(section: Section, prediction: Prediction, encoder: Encoder) -> Predicted:
    there = set(section.genes)
    known = [gene for gene in prediction.genes if gene in there]
    columns = [prediction.genes.index(gene) for gene in known]
    counts = np.full(prediction.values.shape, np.nan, dtype=np.float32)
    measured = counts.copy()
    if known:
        counts[:, columns] = section.counts(known)
        measured[:, columns] = section.expression(known, target=PER_10K)
    done = frame(section, encoder, prediction.genes, prediction.head)
    done.adata.X = counts
    done.adata.layers["predicted"], done.adata.layers["measured"] = prediction.values, measured
    if prediction.uncertainty is not None:
        done.adata.layers["uncertainty"] = prediction.uncertainty
    return Predicted(done, prediction, measured)
