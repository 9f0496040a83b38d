"""Impute a stack: align its sections, fill them jointly, and score the hidden spots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from stzoo.core.aligner import Aligner
from stzoo.core.arrays import Floats
from stzoo.core.data.sampling_rules import informative
from stzoo.core.data.section import PER_10K, Section, Stack
from stzoo.core.errors import DataError
from stzoo.core.imputer import Imputer
from stzoo.core.io.volume import NAME, Volume, place_sections
from stzoo.core.io.write import write
from stzoo.core.metrics.summary import summarise
from stzoo.core.runtime.outputs import check_alone, shared_writing, writing
from stzoo.core.runtime.progress import Progress
from stzoo.core.runtime.ranks import ALONE, Ranks
from stzoo.core.workflows.align_stack import align_stack, central_section
from stzoo.core.workflows.impute import ImputedSection


@dataclass(frozen=True)
class ImputedStack:
    """An imputed stack.

    Parameters
    ----------
    volume
        All imputed sections in one frame.
    truth
        For each section float32 (n, g), log1p of counts per 10,000, NaN where the data have no counts; the method never
        saw the hidden spots.
    """

    volume: Volume
    truth: tuple[Floats, ...]

    def scores(self) -> list[dict[str, float]]:
        """Score hidden spots against the truth, for each section.

        Returns
        -------
        ``measured``, ``filled``, ``known`` (number of hidden spots with known counts) and, if more than two are known,
        ``pcc_mean``, ``pcc_median``, ``mse``, ``mae`` and the baseline ``gene_mean_mse``, ``gene_mean_mae``: each
        gene's mean over the measured spots of that section (its correlation is 0).
        """
        return [_score(ImputedSection(s, t)) for s, t in zip(self.volume.stack.sections, self.truth, strict=True)]

    def lines(self) -> list[str]:
        """Return one line of text per section: how many spots were filled and, if the truth is known, how well."""
        lines = []
        for section, found in zip(self.volume.stack.sections, self.scores(), strict=True):
            line = f"{section.name}: {found['measured']:.0f} spots measured, {found['filled']:.0f} filled"
            if "mse" in found:
                line += (
                    f"; against {found['known']:.0f} hidden spots: PCC mean {found['pcc_mean']:.3f},"
                    f" median {found['pcc_median']:.3f}, MSE {found['mse']:.3f}, MAE {found['mae']:.3f}"
                    f" (gene mean: PCC 0, MSE {found['gene_mean_mse']:.3f}, MAE {found['gene_mean_mae']:.3f})"
                )
            lines.append(line)
        return lines

    def write(self, folder: str | Path, *, export_sections: bool = False, overwrite: bool = False) -> Path:
        """Write ``volume.zarr`` and optionally ``NAME.h5ad`` for each section; the folder is written atomically.

        Parameters
        ----------
        export_sections
            Also write each section as single-section imputation does, with ``obsm["spatial_common_um"]``.
        """
        folder = Path(folder)
        with writing(folder, overwrite=overwrite) as scratch:
            self.put(scratch, export_sections=export_sections)
        return folder

    def put(self, folder: Path, ranks: Ranks = ALONE, *, export_sections: bool = False) -> None:
        """Write the folder (see :meth:`write`) to a temporary path of the caller, each rank its own blocks of spots."""
        if ranks.is_main:
            folder.mkdir()
        self.volume.put(folder / NAME, ranks)
        for section in self.volume.stack.sections if export_sections and ranks.is_main else ():
            write(section, folder / f"{section.name}.h5ad")


def impute_stack(
    imputer: Imputer,
    stack: Stack,
    *,
    sample: str = "sample",
    aligner: Aligner | None = None,
    chain: bool = False,
    genes: Sequence[str] | None = None,
    truth: Sequence[Section] = (),
    out: str | Path | None = None,
    export_sections: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    ranks: Ranks = ALONE,
) -> ImputedStack:
    """Align the sections of a stack to the central one, then impute them jointly.

    Parameters
    ----------
    stack
        Sections with ``obs["measured"]``; counts of hidden spots reach neither the aligner nor the imputer.
    sample
        Name of the sample.
    aligner
        Any aligner plugin; None keeps the stack's transforms (without transforms, the sections' micrometres are taken
        as one common frame).
    chain
        See :func:`stzoo.core.workflows.align_stack.align_stack`.
    genes
        Genes to impute; by default those that all sections share. The aligner uses all genes.
    truth
        Sections with the true counts of hidden spots, for scoring; by default the stack's own.
    out, export_sections, overwrite
        Output folder, see :meth:`ImputedStack.write`, with imputed values kept in temporary files beside it; by default
        nothing is written.
    progress
        Called with (done, total) of the alignment, then of the imputer.
    ranks
        Processes that share the work (with ``out`` only); all call this with the same arguments.

    Raises
    ------
    GeneError
        A section lacks a gene.
    DataError
        The sections share no gene, or two have the same name.
    LostRankError
        Another rank was lost; nothing is written.
    """
    options: dict[str, Any] = {"sample": sample, "aligner": aligner, "chain": chain, "genes": genes, "truth": truth}
    options |= {"progress": progress, "ranks": ranks}
    if out is None:
        check_alone(None, ranks)
        return _fill(imputer, stack, tables=None, **options)
    with shared_writing(Path(out), ranks, overwrite=overwrite) as path:
        done = _fill(imputer, stack, tables=path.parent / "tables", **options)
        done.put(path, ranks, export_sections=export_sections)
        return done


def _fill(
    imputer: Imputer,
    stack: Stack,
    *,
    sample: str,
    aligner: Aligner | None,
    chain: bool,
    genes: Sequence[str] | None,
    truth: Sequence[Section],
    progress: Progress | None,
    ranks: Ranks,
    tables: Path | None,
) -> ImputedStack:
    """Align and fill a stack (see :func:`impute_stack`); imputed values go to files in ``tables``, or to memory."""
    names = [section.name for section in stack.sections]
    if len(set(names)) < len(names):
        raise DataError(f"two sections of the stack have one name: {', '.join(names)}", todo="give each its own")
    genes = list(stack.genes if genes is None else genes)
    truth = tuple(section.take_genes(genes) for section in (truth or stack.sections))
    central = central_section(stack)
    if aligner is not None:
        stack = align_stack(stack, aligner, fixed=central, chain=chain, progress=progress, ranks=ranks)
    stack = replace(stack, sections=tuple(section.take_genes(genes) for section in stack.sections))
    filled = imputer.impute(stack, target=PER_10K, progress=progress, ranks=ranks, folder=tables)
    about = {"sample": sample, "central": names[central], "aligner": "none" if aligner is None else aligner.name}
    for section, z in zip(filled.sections, filled.z_um, strict=True):
        section.adata.uns["stzoo"]["stack"] = {**about, "z_um": z}
    values = tuple(section.expression(target=PER_10K) for section in truth)
    return ImputedStack(Volume(sample, place_sections(filled), central), values)


def _score(done: ImputedSection) -> dict[str, float]:
    section, known = done.section, done.known
    measured = section.measured
    found = {"measured": float(measured.sum()), "filled": float((~measured).sum()), "known": float(known.sum())}
    if known.sum() < 3:
        return found
    values, truth = section.adata.layers["imputed"], done.truth[known]
    metrics = summarise(truth, values[known])
    floor = values[informative(section)].mean(axis=0, dtype=np.float64)
    error = floor - truth
    found |= {key: metrics[key] for key in ("pcc_mean", "pcc_median", "mse", "mae")}
    return found | {"gene_mean_mse": float(np.mean(error**2)), "gene_mean_mae": float(np.mean(np.abs(error)))}
