"""Checks of aligners: what comes out is a usable map in micrometres."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from stzoo.core.conformance.answers import EXACT, check_same
from stzoo.core.conformance.cases import CheckContext
from stzoo.core.conformance.checks import ConformanceError, check
from stzoo.core.geometry.transform import Transform
from stzoo.core.workflows.alignment_quality import quality

INVERSE_UM = 1e-3


@check("aligner")
def result_is_a_transform(case: CheckContext) -> None:
    """``align`` returns a Transform that moves points to finite places and comes back from a file bit-equal."""
    found = case.model.align(*case.sections)
    if not isinstance(found, Transform):
        raise ConformanceError(f"align() returned a {type(found).__name__}", "return a stzoo.Transform")
    moved = {"places": found.apply(case.sections[0].um)}
    with tempfile.TemporaryDirectory() as scratch:
        again = Transform.load(found.save(Path(scratch) / "transform.zarr"))
    check_same({"places": again.apply(case.sections[0].um)}, moved, EXACT, "saved and loaded", "keep to Transform")


@check("aligner")
def there_and_back(case: CheckContext) -> None:
    """The inverse of the transform brings every spot back to its place: the map does not fold."""
    found, um = case.model.align(*case.sections), case.sections[0].um
    apart = float(np.linalg.norm(found.inverse().apply(found.apply(um)) - um, axis=1).max())
    if apart > INVERSE_UM:
        raise ConformanceError(
            f"there and back misses by {apart:.3g} µm", "smooth the displacement until it does not fold"
        )


@check("aligner")
def quality_can_be_judged(case: CheckContext) -> None:
    """The two directions go through the quality control of stzoo, with numbers that are finite."""
    moving, fixed = case.sections
    there, back = case.model.align(moving, fixed), case.model.align(fixed, moving)
    metrics = quality(moving, fixed, there, back=back).as_dict()
    bad = [key for key, value in metrics.items() if isinstance(value, float) and not np.isfinite(value)]
    if bad:
        raise ConformanceError(
            f"'{bad[0]}' of the quality control is {metrics[bad[0]]}", "return a map that is finite everywhere"
        )


@check("aligner")
def a_section_onto_itself(case: CheckContext) -> None:
    """Laid upon itself, a piece of tissue without symmetry stays where it is, to within a pitch."""
    section = case.sections[0]
    moved = case.model.align(section, section).apply(section.um)
    apart = float(np.linalg.norm(moved - section.um, axis=1).mean())
    limit = section.pitch_um or 100.0
    if apart > limit:
        raise ConformanceError(
            f"laid upon itself the section moves by {apart:.0f} µm (a pitch is {limit:.0f})", "check the axes"
        )
