"""Impute a section whose measured spots are given by a rule, and say how well the hidden ones came out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from stzoo.core.arrays import Doubles, Floats, Mask
from stzoo.core.data.sampling_rules import measured_mask
from stzoo.core.data.section import Section
from stzoo.core.errors import DataError
from stzoo.core.imputer import Imputer
from stzoo.core.io.write import check_suffix, write, write_shared
from stzoo.core.metrics.confidence import reliability
from stzoo.core.metrics.summary import summarise
from stzoo.core.runtime.outputs import check_alone, shared_writing
from stzoo.core.runtime.progress import Progress
from stzoo.core.runtime.ranks import ALONE, Ranks

SHOWN = 4
"""Genes of a picture at most: the most variable ones among the measured spots."""


@dataclass(frozen=True)
class ImputedSection:
    """An imputed section.

    Parameters
    ----------
    section
        As :meth:`~stzoo.core.imputer.Imputer.impute` returns it.
    truth
        float32 (n, g), log-normalised as the imputed layer (the same factor for every depth), NaN where the data
        themselves have no counts; the method never saw the hidden ones.
    """

    section: Section
    truth: Floats

    @property
    def known(self) -> Mask:
        """Hidden spots whose counts the data hold, bool (n,)."""
        return ~self.section.measured & np.isfinite(self.truth).all(axis=1)

    def lines(self) -> list[str]:
        """Say how many spots were filled and, where their truth is known, how well."""
        measured, known = self.section.measured, self.known
        lines = [f"{int(measured.sum())} spots measured, {int((~measured).sum())} filled, {self.section.n_genes} genes"]
        if known.sum() > 2:
            metrics = summarise(self.truth[known], self.section.adata.layers["imputed"][known])
            lines.append(
                f"against the {int(known.sum())} hidden spots: PCC mean {metrics['pcc_mean']:.3f},"
                f" median {metrics['pcc_median']:.3f}, MAE {metrics['mae']:.3f}"
            )
        return lines

    def reliability(self) -> Doubles:
        """Compare confidence with the share of variance explained, over hidden spots whose truth is known.

        :func:`require_truth` says beforehand whether there are any.

        Returns
        -------
        As :func:`stzoo.core.metrics.confidence.reliability`, with variances over the measured spots.
        """
        measured, layers = self.section.measured, self.section.adata.layers
        known = self.known
        variance = layers["imputed"][measured].var(axis=0)
        return reliability(self.truth[known], layers["imputed"][known], layers["confidence"][known], variance)

    def write(
        self,
        out: str | Path,
        plot: str | Path | None = None,
        reliability_plot: str | Path | None = None,
        *,
        show: Sequence[str] | None = None,
        overwrite: bool = False,
    ) -> None:
        """Write the section to NAME.h5ad or NAME.zarr and, if asked, its pictures (see :meth:`draw`)."""
        self.draw(plot, reliability_plot, show=show, overwrite=overwrite)
        write(self.section, out, overwrite=overwrite)

    def draw(
        self,
        plot: str | Path | None = None,
        reliability_plot: str | Path | None = None,
        *,
        show: Sequence[str] | None = None,
        overwrite: bool = False,
    ) -> None:
        """Draw the pictures that are asked for.

        Parameters
        ----------
        plot
            Picture of ``show``, by default the most variable genes: measured, imputed, truth, confidence.
        reliability_plot
            Picture of :meth:`reliability`.
        """
        from stzoo.core.plotting.maps import plot_genes, plot_reliability

        layers = self.section.adata.layers
        name = f"{self.section.name}: {self.section.adata.uns['stzoo']['imputed']['model']}"
        shown = None if show is None else self.section.gene_index(show)
        if reliability_plot is not None:
            plot_reliability(self.reliability(), reliability_plot, title=name, overwrite=overwrite)
        if plot is not None:
            given = np.where(self.section.measured[:, None], layers["imputed"], np.nan)
            top = np.argsort(-np.nanvar(given, axis=0), kind="stable")[:SHOWN] if shown is None else shown
            maps = [("measured", given[:, top]), ("imputed", layers["imputed"][:, top])]
            if np.isfinite(self.truth[~self.section.measured]).any():
                maps.append(("truth", self.truth[:, top]))
            sure = np.where(self.section.measured[:, None], np.nan, layers["confidence"])  # 1 where measured
            maps.append(("confidence", sure[:, top]))
            genes = [self.section.genes[i] for i in top]
            plot_genes(self.section, genes, maps, plot, title=name, overwrite=overwrite)


@dataclass(frozen=True)
class Sparse:
    """A section as an imputer sees it, and what it must not see.

    Parameters
    ----------
    section
        Counts of all spots that the rule does not call measured are NaN.
    truth
        float32 (n, g), log-normalised, of every spot that the data measured.
    target
        Depth that both are scaled to.
    """

    section: Section
    truth: Floats
    target: float


def sparse_section(
    section: Section, rule: str, *, genes: Sequence[str] | None = None, target: float | None = None
) -> Sparse:
    """Hide what a rule does not call measured.

    Parameters
    ----------
    rule
        See :func:`stzoo.core.data.sampling_rules.measured_mask`.
    genes
        Genes wanted; by default all. Depths are those of all genes.
    target
        Depth to scale to; by default the median depth of the measured spots that have counts.
    """
    measured = measured_mask(section, rule) & section.measured
    if genes is not None:
        section = section.take_genes(genes)
    if target is None:
        depth = section.depth[measured]
        target = float(np.median(depth[depth > 0])) if (depth > 0).any() else 1.0
    return Sparse(section.hide(measured), section.expression(target=target), target)


def require_truth(section: Section, rule: str) -> None:
    """Refuse a rule that hides nothing of which the counts are known: then nothing can be compared.

    Raises
    ------
    DataError
        Fewer than three spots that the data measured lie outside the rule.
    """
    if (section.measured & ~measured_mask(section, rule)).sum() < 3:
        raise DataError(
            f"of the hidden spots of '{section.name}' no counts are known, so confidence can not be checked",
            todo="hide some measured spots with a rule: --measured grid:2",
        )


def impute(
    imputer: Imputer,
    section: Section,
    *,
    rule: str = "all",
    genes: Sequence[str] | None = None,
    out: str | Path | None = None,
    plot: str | Path | None = None,
    reliability: str | Path | None = None,
    show: Sequence[str] | None = None,
    overwrite: bool = False,
    ranks: Ranks = ALONE,
    progress: Progress | None = None,
) -> ImputedSection:
    """Hide what a rule does not call measured, then fill it.

    Parameters
    ----------
    imputer
        Any imputer plugin.
    rule
        See :func:`stzoo.core.data.sampling_rules.measured_mask`.
    genes
        Genes wanted; by default all. Depths are those of all genes.
    out
        ``NAME.zarr``, in whose neighbourhood what is imputed lies meanwhile (processes may share the work: each fills
        parts of its own, see :meth:`stzoo.PartImputer.fill_parts`, and writes the chunks of its own blocks of spots),
        or ``NAME.h5ad``; by default nothing is written. Whole or absent, whatever happens on the way.
    plot, reliability, show
        Pictures, as of :meth:`ImputedSection.draw`.
    overwrite
        Replace the outputs.
    ranks
        The processes that share the work; all call this with the same arguments.

    Raises
    ------
    UsageError
        The output has another suffix, or several processes are to write what only one can.
    LostRankError
        Another rank went away; nothing is written then.
    """
    sparse = sparse_section(section, rule, genes=genes)
    options: dict[str, Any] = {"target": sparse.target, "progress": progress}
    if out is not None and check_suffix(Path(out)) == ".zarr":
        with shared_writing(Path(out), ranks, overwrite=overwrite) as path:
            filled = imputer.impute(sparse.section, ranks=ranks, folder=path.parent / "tables", **options)
            done = ImputedSection(filled, sparse.truth)
            if ranks.is_main:
                done.draw(plot, reliability, show=show, overwrite=overwrite)
            write_shared(filled, path, ranks)
            return done
    check_alone(None if out is None else Path(out), ranks)
    done = ImputedSection(imputer.impute(sparse.section, **options), sparse.truth)
    done.draw(plot, reliability, show=show, overwrite=overwrite)
    if out is not None:
        write(done.section, out, overwrite=overwrite)
    return done
