"""Splits without leakage: by patient, by section, or by spatial block with a buffer between the sides.

Neighbouring spots are near duplicates, and sections of one patient resemble each other, so a score on random spots says
little about the next patient. Therefore whole patients are held out if known, whole sections if there are enough, and
otherwise slabs of a section, with nearby spots left out of training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from stzoo.core.arrays import Points
from stzoo.core.data.section import Section
from stzoo.core.data.subsets import SpotSubset
from stzoo.core.errors import DataError, UsageError, nearest

PATIENT_KEYS = ("patient", "patient_id", "donor", "donor_id", "individual")
"""Columns of ``obs`` or keys of ``uns`` that give the patient."""
SHARE = 0.2
"""Share of the spots in a slab for validation or test."""
BUFFER_UM = 300.0
"""Training spots closer than this to a held-out slab are dropped (our choice: three Visium pitches)."""
FEWEST = 8
"""Minimum number of spots with counts per side."""


FEW = 60
"""With fewer spots none are held out for validation; then only a head can be fitted."""


class By(Enum):
    """The unit that is held out."""

    auto = "auto"
    """Patients where there are enough of them, then sections, then blocks."""
    patient = "patient"
    section = "section"
    block = "block"


def read_by(text: str) -> By:
    """Parse the name of a unit.

    Raises
    ------
    UsageError
        Unknown name.
    """
    words = [by.value for by in By]
    if text not in words:
        raise UsageError(f"'{text}' is no way to split{nearest(text, words)}", todo=f"--split {', '.join(words)}")
    return By(text)


@dataclass(frozen=True)
class Split:
    """Spots for training, model selection and testing.

    Parameters
    ----------
    train, validation, test
        Disjoint subsets. ``test`` is never used for model selection; ``validation`` may be empty.
    development
        All spots not held out for the test: training, validation and the buffer between them. The final heads are
        fitted on these, after model selection.
    by
        Unit held out for the test and for validation: ``"section"``, ``"patient"``, ``"block"``, ``"given"``.
    notes
        Caveats for the reader.
    dropped
        Number of spots left out as buffer.
    """

    train: tuple[SpotSubset, ...]
    validation: tuple[SpotSubset, ...]
    test: tuple[SpotSubset, ...]
    development: tuple[SpotSubset, ...]
    by: Mapping[str, str]
    notes: tuple[str, ...] = ()
    dropped: int = 0

    def lines(self) -> list[str]:
        """Return one line of text per side of the split."""
        sides = {"train": self.train, "validation": self.validation, "test": self.test}
        lines = [f"{side}: {_describe_subsets(pieces)}{self._how(side)}" for side, pieces in sides.items()]
        if self.dropped:
            lines.append(f"left out as a buffer: {self.dropped} spots")
        return lines

    def _how(self, side: str) -> str:
        return f" (by {self.by[side]})" if side in self.by and self.by[side] != "given" else ""

    def describe(self) -> dict[str, Any]:
        """Return the split as JSON values."""
        sides = {"train": self.train, "validation": self.validation, "test": self.test}
        return {
            **{
                side: [{"section": p.section.name, "spots": p.n, "patient": p.patient or None} for p in pieces]
                for side, pieces in sides.items()
            },
            "by": dict(self.by),
            "dropped": self.dropped,
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class SplitOptions:
    """How to split.

    Parameters
    ----------
    by
        The unit that is held out.
    patients
        Patient of each section, then of each test section; empty: read from the sections.
    same_patient
        The user confirms that all data are from one patient, so scores say nothing about other patients.
    share, buffer_um
        Share of spots in a held-out slab, and the minimum distance of training spots from it.
    """

    by: By = By.auto
    patients: Sequence[str] = ()
    same_patient: bool = False
    share: float = SHARE
    buffer_um: float = BUFFER_UM


def patient_of(section: Section) -> str:
    """Return the patient of a section from ``obs`` or ``uns`` (:data:`PATIENT_KEYS`), or an empty string.

    Raises
    ------
    DataError
        Its spots belong to several patients.
    """
    for key in PATIENT_KEYS:
        if key in section.adata.obs:
            found = sorted({str(value) for value in section.adata.obs[key].dropna()})
            if len(found) > 1:
                raise DataError(
                    f"section '{section.name}' has spots of {len(found)} patients: {', '.join(found[:3])} ...",
                    where=f"obs['{key}']",
                    todo="write each patient's spots to a file of its own",
                )
            if found:
                return found[0]
        value = section.adata.uns.get(key)
        if isinstance(value, str | int | np.integer):
            return str(value)
    return ""


def split(sections: Sequence[Section], test: Sequence[Section] = (), options: SplitOptions | None = None) -> Split:
    """Divide sections into training, validation and test.

    Without test sections, a patient, a section or a slab is held out for the test first; validation is then taken from
    the rest.

    Parameters
    ----------
    sections
        Own data.
    test
        Sections used for the test only.

    Raises
    ------
    UsageError
        A patient would be on two sides, a section is given twice, or there is nothing to hold out by this unit.
    DataError
        A side would have too few spots.
    """
    options = options or SplitOptions()
    pieces = _pieces(sections, test, options)
    own, held = pieces[: len(sections)], pieces[len(sections) :]
    notes = _check_patients(own, held, options)
    rest, test_pieces, by_test, dropped = own, held, "given", 0
    if not held:
        rest, test_pieces, by_test, dropped = _hold_out(own, options, "test")
    parts: tuple[list[SpotSubset], list[SpotSubset], str, int] = (rest, [], "given", 0)
    if sum(piece.n for piece in rest) < FEW:
        notes.append(f"fewer than {FEW} own spots: none are held out for validation")
    else:
        parts = _hold_out(rest, options, "validation")
    train, validation, by_validation, more = parts
    _refuse_few(train, validation, test_pieces)
    if by_validation == "block" and by_test in ("patient", "given"):
        notes.append("validation spots are of the sections that were trained on; the test is not")
    return Split(
        tuple(train),
        tuple(validation),
        tuple(test_pieces),
        tuple(rest),
        {"test": by_test, "validation": by_validation},
        tuple(notes),
        dropped + more,
    )


def _pieces(sections: Sequence[Section], test: Sequence[Section], options: SplitOptions) -> list[SpotSubset]:
    every = [*sections, *test]
    if not sections:
        raise UsageError("no section to tune on", todo="give at least one section with a slide and counts")
    names = list(options.patients)
    if names and len(names) != len(every):
        raise UsageError(
            f"{len(names)} patients for {len(every)} sections",
            todo="name one for each section, in order, those of the test last",
        )
    known = [(section.source, section.name) for section in every]
    for source, name in known:
        if known.count((source, name)) > 1:
            raise UsageError(f"section '{source or name}' is given twice", todo="give each section once")
    patients = names or [patient_of(section) for section in every]
    return [SpotSubset(section, section.counted, who) for section, who in zip(every, patients, strict=True)]


def _check_patients(own: Sequence[SpotSubset], held: Sequence[SpotSubset], options: SplitOptions) -> list[str]:
    """Raise an error if a patient is on both sides; return caveats."""
    everyone = {piece.patient for piece in (*own, *held)}
    if "" in everyone:
        if options.by is By.patient:
            nameless = next(piece.section.name for piece in (*own, *held) if not piece.patient)
            raise UsageError(f"section '{nameless}' names no patient", todo="name them: --patients P1,P2 ...")
        return ["patients are not known, so training and test may be of one patient: the score may flatter"]
    both = sorted({piece.patient for piece in own} & {piece.patient for piece in held})
    if len(everyone) == 1:
        if not options.same_patient:
            raise UsageError(
                f"all sections are of patient '{min(everyone)}', so one patient would be on both sides of the split",
                todo="add a section of another patient, or accept it: --same-patient",
            )
        return [f"training and test are of one patient ('{min(everyone)}'): the score says nothing about others"]
    if both:
        raise UsageError(
            f"patient '{both[0]}' is in training and in test",
            where=", ".join(piece.section.name for piece in (*own, *held) if piece.patient == both[0]),
            todo="test on a patient that training does not see",
        )
    return []


def _hold_out(
    pieces: Sequence[SpotSubset], options: SplitOptions, side: str
) -> tuple[list[SpotSubset], list[SpotSubset], str, int]:
    """Return the rest, the held-out subset, the unit used, and the number of buffer spots."""
    for by in (By.patient, By.section):
        groups = _groups(pieces, by)
        fewest = 2 if by is By.patient or options.by is by else 3
        if options.by in (By.auto, by) and len(groups) >= fewest:
            chosen = min(groups, key=lambda name: (sum(piece.n for piece in groups[name]), name))
            return [p for p in pieces if p not in groups[chosen]], groups[chosen], by.value, 0
    if options.by is By.section and side == "test":
        raise UsageError("one section can not be held out by section", todo="use --split block, or give --test SECTION")
    if options.by is By.patient and side == "test":
        raise UsageError("one patient can not be held out by patient", todo="give --test SECTION of another patient")
    found = [_slab(piece, options, first=side == "validation") for piece in pieces]
    lost = sum(piece.n - kept.n - held.n for piece, (kept, held) in zip(pieces, found, strict=True))
    return [kept for kept, _ in found], [held for _, held in found], "block", lost


def _groups(pieces: Sequence[SpotSubset], by: By) -> dict[str, list[SpotSubset]]:
    groups: dict[str, list[SpotSubset]] = {}
    for number, piece in enumerate(pieces):
        if by is By.patient and not piece.patient:
            return {}
        groups.setdefault(piece.patient if by is By.patient else f"{number:04d}", []).append(piece)
    return groups


def _slab(piece: SpotSubset, options: SplitOptions, *, first: bool) -> tuple[SpotSubset, SpotSubset]:
    """Hold out a slab at one end of the longest axis of the tissue; drop spots within the buffer."""
    at = np.flatnonzero(piece.spots)
    um = piece.section.um[at]
    along = _along(um)
    order = np.argsort(along if first else -along, kind="stable")
    held = np.zeros(len(at), dtype=bool)
    held[order[: max(1, round(options.share * len(at)))]] = True
    near = distance_to(um, um[held]) < options.buffer_um
    sides = []
    for mask in (~held & ~near, held):
        spots = np.zeros(len(piece.section), dtype=bool)
        spots[at[mask]] = True
        sides.append(SpotSubset(piece.section, spots, piece.patient))
    return sides[0], sides[1]


def _along(um: Points) -> Points:
    """Return the position of each spot along the longest (first principal) axis, float64 (n,), with a fixed sign."""
    centred = um - um.mean(axis=0)
    axis = np.linalg.svd(centred, full_matrices=False)[2][0]
    return np.asarray(centred @ (axis if axis[np.abs(axis).argmax()] > 0 else -axis))


def distance_to(um: Points, others: Points) -> Points:
    """Return the distance of each point to the nearest of ``others``, float64 (n,); infinite if there is none."""
    from scipy.spatial import cKDTree

    if len(others) == 0:
        return np.full(len(um), np.inf)
    return np.asarray(cKDTree(others).query(um)[0], dtype=np.float64)


def _refuse_few(train: Sequence[SpotSubset], validation: Sequence[SpotSubset], test: Sequence[SpotSubset]) -> None:
    for side, pieces in (("training", train), ("validation", validation), ("test", test)):
        n = sum(piece.n for piece in pieces)
        if n < FEWEST and (pieces or side != "validation"):
            raise DataError(
                f"{n} spots with counts would be left for {side}, fewer than {FEWEST}",
                where=", ".join(piece.section.name for piece in pieces) or None,
                todo="give more sections, a smaller --buffer-um, or test sections of their own with --test",
            )


def _describe_subsets(pieces: Sequence[SpotSubset]) -> str:
    parts = [f"{p.section.name}{f' [{p.patient}]' if p.patient else ''} {p.n}" for p in pieces]
    return f"{sum(piece.n for piece in pieces)} spots: {', '.join(parts)}"
