"""What several commands check before they start to work."""

from __future__ import annotations

from pathlib import Path

from stzoo.core.errors import UsageError
from stzoo.core.output import check_output


def check_outputs(overwrite: bool, out: Path, plot: Path | None = None) -> None:
    """Refuse outputs that exist or can not be written, before any work is done."""
    check_output(out, overwrite=overwrite)
    if plot is not None:
        from stzoo.core.plot import check_plot

        check_output(check_plot(plot), overwrite=overwrite)


def check_suffix(out: Path) -> None:
    """Refuse an output that is neither .h5ad nor .zarr."""
    if out.suffix not in (".h5ad", ".zarr"):
        raise UsageError(f"'{out.name}' has no known suffix", todo="write to NAME.h5ad or NAME.zarr")


def parse_genes(text: str | None) -> list[str] | None:
    """Return the genes of a comma-separated list, without repeats; None for None."""
    if text is None:
        return None
    found = list(dict.fromkeys(gene.strip() for gene in text.split(",") if gene.strip()))
    if not found:
        raise UsageError(f"'{text}' names no gene", todo="write --genes ERBB2,CD74")
    return found
