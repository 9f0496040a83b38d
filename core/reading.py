"""Read any section by one string: ``PATH`` or ``PATH::SECTION``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from stzoo.core.checking import check_section, counts_kind
from stzoo.core.errors import DataError, StzooError, UsageError, nearest
from stzoo.core.image import Slide
from stzoo.core.interfaces import Reader
from stzoo.core.plugins import default_host, resolve
from stzoo.core.records import ReaderSpec
from stzoo.core.section import Section


def split_source(source: str | Path) -> tuple[Path, str | None]:
    """Split ``PATH::SECTION`` into path and section name (None where there is no ``::``)."""
    text = str(source)
    path, mark, section = text.rpartition("::")
    if not mark:
        return Path(text), None
    if not path or not section:
        raise UsageError(f"'{text}' names no section", todo="write PATH or PATH::SECTION")
    return Path(path), section


def read(
    source: str | Path,
    *,
    mpp: float | None = None,
    image: str | Path | None = None,
    bin_um: float | None = None,
    format: str | None = None,
) -> Section:
    """Read one section.

    Parameters
    ----------
    source
        ``PATH``, or ``PATH::SECTION`` where the path holds several.
    mpp
        Micrometres per pixel of the full-resolution slide, where the files do not say (or say it wrong).
    image
        A slide image to use instead of the one found.
    bin_um
        Sum the spots or cells into square bins of this size in micrometres.
    format
        Name of the reader, where more than one recognises the path.

    Returns
    -------
    A checked :class:`~stzoo.core.section.Section`: unique names, finite positions, no negative or NaN counts.

    Raises
    ------
    DataError
        The path is missing or damaged, or no reader (or more than one) recognises it.
    UnitsError
        ``mpp`` is not a positive number, or bins were asked of a section without µm/px.

    Examples
    --------
    >>> stzoo.read("her2st::C5")  # doctest: +SKIP
    """
    path, name = split_source(source)
    reader = find_reader(path, format)
    name = _choose(reader.sections(path), name, path)
    section = replace(reader.read(path, name), source=f"{path}::{name}")
    section = check_section(section)
    if image is not None:
        section = replace(section, slide=Slide.open(image, mpp=mpp or section.mpp))
        if section.mpp is None and section.slide is not None:
            section = replace(section, mpp=section.slide.mpp)
    if mpp is not None:
        slide = None if section.slide is None else section.slide.with_mpp(mpp)
        section = replace(section, mpp=mpp, slide=slide)
    if bin_um is not None:
        from stzoo.core.binning import bin_section

        section = bin_section(section, bin_um)
    return section


def sections(path: str | Path, *, format: str | None = None) -> list[str]:
    """Return the names of the sections at a path."""
    path = Path(path)
    return list(find_reader(path, format).sections(path))


def find_reader(path: Path, format: str | None = None) -> Reader:
    """Return the one reader that recognises a path.

    Raises
    ------
    DataError
        The path does not exist, or not exactly one reader recognises it.
    """
    if not path.exists():
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(f"no such file or folder: {path}{nearest(path.name, siblings)}", todo="check the path")
    host = default_host()
    if format is not None:
        return _reader(host.find(ReaderSpec, format)[1])
    found = [spec for _, spec in host.of(ReaderSpec) if _reader(spec).recognises(path)]
    if len(found) == 1:
        return _reader(found[0])
    if found:
        both = " and ".join(f"'{spec.name}'" for spec in found)
        raise DataError(f"more than one reader recognises this: {both}", where=path, todo="choose one with --format")
    known = "; ".join(f"{spec.name} ({spec.summary})" for _, spec in host.of(ReaderSpec))
    raise DataError("no reader recognises this", where=path, todo=f"give one of: {known}")


def inspect(path: str | Path, *, format: str | None = None) -> dict[str, Any]:
    """Say what was recognised at a path.

    Returns
    -------
    ``{"path", "format", "sections": [{"name", "spots", "genes", "mpp", "image", "counts", "missing"}]}``; a section
    that can not be read has ``error`` instead. ``image`` is ``[width, height]`` in pixels or None.
    """
    root, only = split_source(path)
    reader = find_reader(root, format)
    names = list(reader.sections(root))
    if only is not None:
        names = [_choose(names, only, root)]
    return {"path": str(root), "format": reader.format, "sections": [_describe(reader, root, n) for n in names]}


def _describe(reader: Reader, path: Path, name: str) -> dict[str, Any]:
    try:
        section = check_section(replace(reader.read(path, name), source=f"{path}::{name}"))
    except StzooError as error:
        return {"name": name, "error": str(error)}
    slide = section.slide
    missing = [
        what
        for what, absent in (
            ("slide image", slide is None),
            ("µm/px", section.mpp is None and "spatial_um" not in section.adata.obsm),
            ("array_row/array_col", "array_row" not in section.adata.obs),
        )
        if absent
    ]
    return {
        "name": name,
        "spots": section.n_spots,
        "genes": section.n_genes,
        "mpp": None if section.mpp is None else round(section.mpp, 4),
        "image": None if slide is None else [slide.width, slide.height],
        "counts": counts_kind(section),
        "missing": missing,
    }


def _choose(names: Sequence[str], wanted: str | None, path: Path) -> str:
    if not names:
        raise DataError("there is no section here", where=path)
    listed = ", ".join(names[:12]) + (" ..." if len(names) > 12 else "")
    if wanted is None:
        if len(names) > 1:
            raise UsageError(f"{path} holds {len(names)} sections: {listed}", todo=f"name one, e.g. {path}::{names[0]}")
        return names[0]
    if wanted not in names:
        raise DataError(f"no section '{wanted}'{nearest(wanted, names)}", where=f"{path}: {listed}")
    return wanted


def _reader(spec: ReaderSpec) -> Reader:
    reader: Reader = resolve(spec.target)()
    return reader
