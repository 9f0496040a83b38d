"""Impute a section whose measured spots are given by a rule, and score the hidden ones."""

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
"""Maximum number of genes in a picture: the most variable ones among the measured spots."""


@dataclass(frozen=True)
class ImputedSection:
    """An imputed section.

    Parameters
    ----------
    section
        Result of :meth:`~stzoo.core.imputer.Imputer.impute`.
    truth
        float32 (n, g), log-normalised like the imputed layer (same target depth), NaN where the data have no counts;
        the method never saw the hidden spots.
    """

    section: Section
    truth: Floats

    @property
    def known(self) -> Mask:
        """Mask of hidden spots whose counts are known, bool (n,)."""
        return ~self.section.measured & np.isfinite(self.truth).all(axis=1)

    def lines(self) -> list[str]:
        """Return lines of text: how many spots were filled and, if the truth is known, how well."""
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
        """Compare confidence with the share of variance explained, over hidden spots with known truth.

        Check with :func:`require_truth` beforehand that there are any.

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
        """Write the section to NAME.h5ad or NAME.zarr, and optionally pictures (see :meth:`draw`)."""
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
        """Draw the requested pictures.

        Parameters
        ----------
        plot
            Maps of the genes ``show``, by default the most variable ones: measured, imputed, truth, confidence.
        reliability_plot
            Reliability diagram, see :meth:`reliability`.
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
    """A section with hidden spots, and their ground truth.

    Parameters
    ----------
    section
        Counts of all spots that the rule does not select are NaN.
    truth
        float32 (n, g), log-normalised, of every spot measured in the data.
    target
        Depth that both are scaled to.
    """

    section: Section
    truth: Floats
    target: float


def sparse_section(
    section: Section, rule: str, *, genes: Sequence[str] | None = None, target: float | None = None
) -> Sparse:
    """Hide the spots that a rule does not select.

    Parameters
    ----------
    rule
        See :func:`stzoo.core.data.sampling_rules.measured_mask`.
    genes
        Genes to use; by default all. Depths are those of all genes.
    target
        Depth to scale to; by default the median depth of measured spots with counts.
    """
    measured = measured_mask(section, rule) & section.measured
    if genes is not None:
        section = section.take_genes(genes)
    if target is None:
        depth = section.depth[measured]
        target = float(np.median(depth[depth > 0])) if (depth > 0).any() else 1.0
    return Sparse(section.hide(measured), section.expression(target=target), target)


def require_truth(section: Section, rule: str) -> None:
    """Raise an error if the rule hides too few spots with known counts to compare with.

    Raises
    ------
    DataError
        Fewer than three spots measured in the data are hidden by the rule.
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
    """Hide the spots that a rule does not select, then impute them.

    Parameters
    ----------
    imputer
        Any imputer plugin.
    rule
        See :func:`stzoo.core.data.sampling_rules.measured_mask`.
    genes
        Genes to use; by default all. Depths are those of all genes.
    out
        ``NAME.zarr``, with imputed values kept in temporary files beside it (processes can share the work: each fills
        its own parts, see :meth:`stzoo.PartImputer.fill_parts`, and writes the chunks of its own blocks of spots), or
        ``NAME.h5ad``; by default nothing is written. The output is written atomically: complete or absent.
    plot, reliability, show
        Pictures, see :meth:`ImputedSection.draw`.
    overwrite
        Replace existing outputs.
    ranks
        Processes that share the work; all call this with the same arguments.

    Raises
    ------
    UsageError
        Unsupported suffix, or an output that several processes cannot write together.
    LostRankError
        Another rank was lost; nothing is written.
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
    check_alone(None if out is None else Path(out), ranks, overwrite=overwrite)
    done = ImputedSection(imputer.impute(sparse.section, **options), sparse.truth)
    done.draw(plot, reliability, show=show, overwrite=overwrite)
    if out is not None:
        write(done.section, out, overwrite=overwrite)
    return done
