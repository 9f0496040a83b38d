"""What several commands check before they start to work."""

from __future__ import annotations

from pathlib import Path

from stzoo.core.errors import UsageError
from stzoo.core.runtime.outputs import check_output


def check_outputs(overwrite: bool, out: Path, plot: Path | None = None) -> None:
    """Refuse outputs that exist or can not be written, before any work is done."""
    check_output(out, overwrite=overwrite)
    if plot is not None:
        from stzoo.core.plotting.maps import check_plot

        check_output(check_plot(plot), overwrite=overwrite)


def check_folder(out: Path) -> None:
    """Refuse the name of a file for what is written as a folder."""
    if out.suffix in (".h5ad", ".zarr"):
        raise UsageError(
            f"'{out.name}' is the name of a file, and a stack is written as a folder", todo="name a folder"
        )


def check_stack_suffix(out: Path) -> None:
    """Refuse a stack file that would not be known as one."""
    from stzoo.core.io.stack_file import SUFFIXES, is_stack_file

    if not is_stack_file(out):
        raise UsageError(f"'{out.name}' is no name for a stack file", todo=f"write to NAME{' or NAME'.join(SUFFIXES)}")


def refuse_options(kind: str, **given: object) -> None:
    """Refuse options that have no meaning for the kind of input: those that are not None or False.

    Parameters
    ----------
    kind
        What the input is, e.g. ``"a stack"``.
    given
        Value by name of the option.
    """
    for name, value in given.items():
        if value is not None and value is not False:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} has no meaning for {kind}", todo=f"leave {option} out")


def parse_names(text: str | None) -> list[str] | None:
    """Return the names of a comma-separated list, without repeats; None for None."""
    return None if text is None else list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def parse_genes(text: str | None) -> list[str] | None:
    """Return the genes of a comma-separated list, without repeats; None for None."""
    found = parse_names(text)
    if found == []:
        raise UsageError(f"'{text}' names no gene", todo="write --genes ERBB2,CD74")
    return found
