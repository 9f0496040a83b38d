"""Read any section by one string: ``PATH`` or ``PATH::SECTION``."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from stzoo.core.data.lazy import is_whole
from stzoo.core.data.notes import NOTES, list_names, note
from stzoo.core.data.section import Section
from stzoo.core.data.validate import check_section, share_outside
from stzoo.core.errors import DataError, StzooError, UnitsError, UsageError, nearest
from stzoo.core.io.detect import disk_errors, find_reader
from stzoo.core.reader import Reader
from stzoo.core.slides.slide import Slide

_AGREE = 0.05


def split_source(source: str | Path) -> tuple[Path, str | None]:
    """Split ``PATH::SECTION`` into path and section name (None where there is no ``::``).

    Raises
    ------
    UsageError
        One side of ``::`` is empty.
    """
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
    lazy: bool = False,
) -> Section:
    """Read one section.

    Parameters
    ----------
    source
        ``PATH``, or ``PATH::SECTION`` where the path holds several.
    mpp
        Micrometres per pixel of the full-resolution slide, where the files do not say (or say it wrong).
    image
        A slide image to use instead of the one found: the one that the pixel positions belong to. Where positions
        are micrometres only (Xenium), its top left corner is taken to be (0, 0) µm.
    bin_um
        Sum the spots or cells into square bins of this size in micrometres.
    format
        Name of the reader, where more than one recognises the path.
    lazy
        Leave the counts on disk, where the format can, and read rows when they are asked for; for sections whose
        counts do not fit into memory.

    Returns
    -------
    A checked :class:`~stzoo.core.data.section.Section`: unique names, finite positions, no negative or NaN counts.

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
    section = _read_one(reader, path, _choose(_names(reader, path), name, path), lazy=lazy)
    if mpp is not None:
        section = _with_mpp(section, mpp)
    if image is not None:
        section = _with_image(section, Path(image))
    section = check_section(section)
    if bin_um is not None:
        from stzoo.core.data.binning import bin_section

        section = bin_section(section, bin_um)
    return section


def sections(path: str | Path, *, format: str | None = None) -> list[str]:
    """Return the names of the sections at a path.

    Raises
    ------
    DataError
        The path is missing, or not exactly one reader recognises it.
    """
    path = Path(path)
    return _names(find_reader(path, format), path)


def inspect(path: str | Path, *, format: str | None = None) -> dict[str, Any]:
    """Say what was recognised at a path.

    Parameters
    ----------
    path
        ``PATH`` or ``PATH::SECTION``.
    format
        Name of the reader, where more than one recognises the path.

    Returns
    -------
    ``{"path", "format", "sections": [{"name", "spots", "genes", "mpp", "image", "counts", "missing", "notes"}]}``.
    ``mpp`` is µm/px or None, ``image`` ``[width, height]`` in pixels or None, ``counts`` ``"raw"`` or
    ``"not integers"``, ``notes`` what the reader left out or doubted. Of several sections, one that can not be read
    has ``error`` instead.

    Raises
    ------
    DataError
        The path, or its only section, can not be read.
    """
    root, only = split_source(path)
    reader = find_reader(root, format)
    names = _names(reader, root)
    if only is not None or len(names) < 2:
        names = [_choose(names, only, root)]
        return {"path": str(root), "format": reader.format, "sections": [_describe(reader, root, names[0])]}
    found: list[dict[str, Any]] = []
    for name in names:
        try:
            found.append(_describe(reader, root, name))
        except StzooError as error:
            found.append({"name": name, "error": str(error)})
    return {"path": str(root), "format": reader.format, "sections": found}


def _describe(reader: Reader, path: Path, name: str) -> dict[str, Any]:
    section = check_section(_read_one(reader, path, name))
    adata, slide = section.adata, section.slide
    absent = {
        "slide image": slide is None,
        "µm/px": section.mpp is None and "spatial_um" not in adata.obsm,
        "array_row/array_col": "array_row" not in adata.obs,
    }
    notes = list(adata.uns.get(NOTES, []))
    if outside := share_outside(section):
        notes.append(f"{outside:.1%} of the spots lie outside the slide")
    if "in_tissue" in adata.obs and not (inside := adata.obs["in_tissue"].astype(bool)).all():
        notes.append(f"{int(inside.sum())} of {section.n_spots} spots are in tissue (obs['in_tissue'])")
    return {
        "name": name,
        "spots": section.n_spots,
        "genes": section.n_genes,
        "mpp": None if section.mpp is None else round(section.mpp, 4),
        "image": None if slide is None else [slide.width, slide.height],
        "counts": "raw" if is_whole(adata.X) else "not integers",
        "missing": [what for what, is_absent in absent.items() if is_absent],
        "notes": notes,
    }


def _names(reader: Reader, path: Path) -> list[str]:
    with disk_errors(path):
        return list(reader.sections(path))


def _read_one(reader: Reader, path: Path, name: str, *, lazy: bool = False) -> Section:
    with disk_errors(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what anndata and zarr warn of is checked below, or is for their developers
        section = (reader.read_lazily if lazy else reader.read)(path, name)
    return replace(section, source=f"{path}::{name}")


def _with_mpp(section: Section, mpp: float) -> Section:
    # Pixels are what was measured: micrometres that came with them are made anew from the given scale.
    if "spatial" in section.adata.obsm and "spatial_um" in section.adata.obsm:
        del section.adata.obsm["spatial_um"]
    section = replace(section, mpp=mpp)
    return section if section.slide is None else replace(section, slide=section.slide.with_mpp(mpp))


def _with_image(section: Section, image: Path) -> Section:
    slide = Slide.open(image)
    mpp = section.mpp or slide.mpp
    if "spatial" not in section.adata.obsm:
        if mpp is None:
            raise UnitsError(
                f"section '{section.name}' has positions in µm, and the image does not say its µm/px",
                where=image,
                todo="give it: --mpp VALUE, or stzoo.read(..., mpp=VALUE)",
            )
        section.adata.obsm["spatial"] = section.um / mpp
        note(section.adata, f"pixel positions are µm / {mpp:.4g}: the image's corner is taken to be (0, 0) µm")
    elif slide.mpp is not None and mpp is not None and abs(slide.mpp / mpp - 1) > _AGREE:
        note(section.adata, f"the image says {slide.mpp:.4g} µm/px, the positions say {mpp:.4g}, which is used")
    return replace(section, mpp=mpp, slide=slide if mpp is None else slide.with_mpp(mpp))


def _choose(names: Sequence[str], wanted: str | None, path: Path) -> str:
    if not names:
        raise DataError("there is no section here", where=path, todo="check that the folder is complete")
    shown = list_names(names, 12)
    if wanted is None:
        if len(names) > 1:
            raise UsageError(f"{path} holds {len(names)} sections: {shown}", todo=f"name one, e.g. {path}::{names[0]}")
        return names[0]
    if wanted not in names:
        hint = nearest(wanted, names)
        raise DataError(f"no section '{wanted}'{hint}", where=f"{path} holds {shown}", todo=f"e.g. {path}::{names[0]}")
    return wanted


def data_source(source: str, folder: Path) -> str:
    """Return a section's address (``FOLDER::NAME``) below a data folder.

    The folder may be the one that holds ``FOLDER``, or that very folder.

    Raises
    ------
    DataError
        Neither is there.
    """
    first, mark, section = source.partition("::")
    for root in (folder / first, folder if folder.resolve().name == Path(first).name else None):
        if root is not None and root.exists():
            return f"{root}{mark}{section}"
    raise DataError(f"no '{first}' in {folder}", todo="give with --data the folder that holds it")
