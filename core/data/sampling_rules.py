"""Rules that select the measured spots, as short strings (``grid:2``, ``random:0.25+7``, ``obs:COLUMN`` ...)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from stzoo.core.arrays import Mask
from stzoo.core.data.section import Section
from stzoo.core.errors import DataError, UsageError

Wholes = npt.NDArray[np.int64]

_FORMS = "all, grid:2, grid:2+1,0, random:0.25+SEED, obs:COLUMN or file:barcodes.txt"


def measured_mask(section: Section, rule: str) -> Mask:
    """Return the mask of the spots that a rule selects as measured.

    Parameters
    ----------
    section
        The section; ``grid`` needs ``obs["array_row"]`` and ``obs["array_col"]``.
    rule
        ``all``; ``grid:S`` (array row and column divisible by S) or ``grid:S+r,c`` (another phase), where the columns
        of a row of a hexagonal lattice (Visium: row + column is even) are numbered consecutively;
        ``random:SHARE`` or ``random:SHARE+SEED``; ``obs:COLUMN`` (true where the column is true); ``file:PATH``
        (one barcode per line).

    Returns
    -------
    bool (n,), true where measured.

    Raises
    ------
    UsageError
        The rule is malformed.
    DataError
        The rule needs data that the section lacks, or selects no spot.
    """
    kind, _, argument = rule.partition(":")
    makers = {"all": _all, "grid": _grid, "random": _random, "obs": _obs, "file": _file}
    if kind not in makers:
        raise UsageError(f"'{rule}' is not a rule for measured spots", todo=f"use {_FORMS}")
    mask = makers[kind](section, argument)
    if not mask.any():
        raise DataError(
            f"the rule '{rule}' leaves no spot of '{section.name}' measured", todo=f"use another rule: {_FORMS}"
        )
    return mask


def informative(section: Section) -> Mask:
    """Return the informative measured spots: those with counts (all measured ones if none has any).

    A measured spot with zero total counts has no expression profile; its zeros are kept in results but not used for
    learning.
    """
    measured = section.measured
    with np.errstate(invalid="ignore"):
        seen = measured & (section.depth > 0)
    return seen if seen.any() else measured


def lattice_columns(row: Wholes, col: Wholes) -> Wholes:
    """Return array columns; on a hexagonal lattice (row + column is always even) they are numbered consecutively.

    Parameters
    ----------
    row, col
        int64 (n,), of all spots of a section.
    """
    hexagonal = ((row + col) % 2 == 0).all() and (row % 2 == 1).any()
    return np.asarray(col // 2 if hexagonal else col, dtype=np.int64)


def _all(section: Section, argument: str) -> Mask:
    if argument:
        raise UsageError(f"'all:{argument}' is not a rule", todo="write all")
    return np.ones(section.n_spots, dtype=bool)


def _grid(section: Section, argument: str) -> Mask:
    stride_text, _, phase_text = argument.partition("+")
    try:
        stride = int(stride_text)
        row0, col0 = (int(part) for part in phase_text.split(",")) if phase_text else (0, 0)
    except ValueError:
        stride, row0, col0 = 0, 0, 0
    if stride < 1:
        raise UsageError(f"'grid:{argument}' is not a rule", todo="write grid:2, or grid:2+1,0 for another phase")
    missing = [column for column in ("array_row", "array_col") if column not in section.adata.obs]
    if missing:
        raise DataError(
            f"section '{section.name}' has no obs['{missing[0]}'], so a grid rule has no meaning",
            todo="use random:0.25 or file:barcodes.txt",
        )
    row, col = _positions(section, "array_row"), _positions(section, "array_col")
    col = lattice_columns(row, col)
    mask: Mask = ((row - row0) % stride == 0) & ((col - col0) % stride == 0)
    return mask


def _positions(section: Section, column: str) -> Wholes:
    try:
        values = np.asarray(section.adata.obs[column], dtype=float)
    except (TypeError, ValueError) as error:
        raise DataError(f"obs['{column}'] of section '{section.name}' is not numbers") from error
    if not np.isfinite(values).all():
        raise DataError(f"obs['{column}'] of section '{section.name}' has {int((~np.isfinite(values)).sum())} gaps")
    whole: Wholes = np.rint(values).astype(np.int64)
    return whole


def _random(section: Section, argument: str) -> Mask:
    share_text, _, seed_text = argument.partition("+")
    try:
        share, seed = float(share_text), int(seed_text or 0)
    except ValueError:
        share, seed = -1.0, 0
    if not 0 < share <= 1 or seed < 0:
        raise UsageError(f"'random:{argument}' is not a rule", todo="write random:0.25 or random:0.25+SEED")
    chosen = np.random.default_rng(seed).permutation(section.n_spots)[: max(1, round(share * section.n_spots))]
    mask = np.zeros(section.n_spots, dtype=bool)
    mask[chosen] = True
    return mask


def _obs(section: Section, argument: str) -> Mask:
    if argument not in section.adata.obs:
        raise DataError(
            f"section '{section.name}' has no obs column '{argument}'",
            where=f"columns: {', '.join(section.adata.obs.columns)}",
            todo="name one of them, or use another rule",
        )
    try:
        values = np.asarray(section.adata.obs[argument]).astype(float)
    except (TypeError, ValueError):
        values = np.full(section.n_spots, np.nan)
    if not np.isin(values, (0, 1)).all():
        raise DataError(
            f"obs['{argument}'] of section '{section.name}' is not true/false or 0/1 in every spot",
            todo="give a boolean column without gaps",
        )
    return values.astype(bool)


def _file(section: Section, argument: str) -> Mask:
    path = Path(argument)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"can not read the list of barcodes: {error}", where=path, todo="check the path; one barcode a line"
        ) from error
    wanted = {line.strip() for line in lines} - {""}
    unknown = wanted - set(section.adata.obs_names)
    if unknown:
        raise DataError(
            f"{len(unknown)} of {len(wanted)} barcodes are not in section '{section.name}', e.g. '{min(unknown)}'",
            where=path,
            todo="give barcodes of this section, one a line",
        )
    return np.asarray(section.adata.obs_names.isin(wanted))
