"""One run of a stack protocol: which section is central, what of the others is measured, and what rows may see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from stzoo import Aligner, DataError, Section, Stack, Transform
from stzoo.core.arrays import Floats, Mask
from stzoo.core.data.sampling_rules import measured_mask
from stzoo.core.data.subsets import detected_genes, expression_of, measured_subsets
from stzoo.core.evaluation.protocol import GeneSet
from stzoo.core.workflows.align_stack import align_stack
from stzoo.plugins.benchmarks.kinds.hidden_spots import LEAST_HIDDEN

NO_ALIGNER = "none"
"""Sections stay where they are."""


@dataclass(frozen=True)
class Round:
    """A stack of which one section is central: measured at all spots, the others by a rule.

    Parameters
    ----------
    central
        Index of the central section.
    rule
        What is measured of the others (see :func:`stzoo.core.data.sampling_rules.measured_mask`).
    genes
        Genes that are filled and scored, chosen on the measured spots.
    given
        Every section as rows may see it: counts of hidden spots are NaN, and only the genes above are there.
    truth
        For each section float32 (n, g), log1p of counts per target; NaN where the data themselves have none.
    scored
        For each section bool (n,): hidden spots whose counts the data hold. Nothing in the central one.
    """

    central: int
    rule: str
    genes: list[str]
    given: Stack
    truth: list[Floats]
    scored: list[Mask]
    _transforms: dict[str, tuple[Transform | None, ...]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        sections: Sequence[Section],
        central: int,
        rule: str,
        *,
        genes: GeneSet,
        min_detected: float,
        target: float,
    ) -> Round:
        """Hide what the rule does not call measured, then choose genes on what is left.

        Raises
        ------
        DataError
            The rule hides fewer than three spots of a section, or no gene is detected.
        """
        given = []
        for number, section in enumerate(sections):
            rule_of = "all" if number == central else rule
            given.append(section.hide(measured_mask(section, rule_of)))
        scored = [full.measured & ~part.measured for full, part in zip(sections, given, strict=True)]
        for number, (section, mask) in enumerate(zip(sections, scored, strict=True)):
            if number != central and mask.sum() < LEAST_HIDDEN:
                raise DataError(
                    f"the rule '{rule}' hides {int(mask.sum())} spots of '{section.name}'",
                    todo="use a rule that hides more",
                )
        chosen = choose_genes(given, genes, min_detected, target)
        truth = [section.expression(chosen, target=target) for section in sections]
        stack = Stack(tuple(section.take_genes(chosen) for section in given))
        return cls(central, rule, chosen, stack, truth, scored)

    @property
    def adjacent(self) -> list[int]:
        """Indices of the sections that are scored."""
        return [i for i in range(len(self.given)) if i != self.central]

    def align(self, name: str, make: Callable[[], Aligner]) -> Stack:
        """Return the stack with all sections in the frame of the central one; every aligner runs once.

        Parameters
        ----------
        name
            Of the aligner; ``none`` leaves the sections where they are.
        make
            Makes the aligner, if it has not run yet. It sees no hidden counts.
        """
        if name == NO_ALIGNER:
            return self.given
        if name not in self._transforms:
            self._transforms[name] = align_stack(self.given, make(), fixed=self.central).transforms
        return replace(self.given, transforms=self._transforms[name])


def choose_genes(given: Sequence[Section], rule: GeneSet, min_detected: float, target: float) -> list[str]:
    """Return genes of all sections, the best by ``rule`` over the measured spots of all of them together.

    Parameters
    ----------
    given
        Sections whose hidden counts are NaN.
    min_detected
        Genes are detected in at least this share of the measured spots.

    Raises
    ------
    DataError
        No gene is detected so often.
    """
    subsets = measured_subsets(given)
    genes = detected_genes(subsets, min_detected)
    if not genes:
        raise DataError(
            f"no gene is in all sections and detected in {min_detected:.0%} of the measured spots",
            todo="lower min_detected",
        )
    return [genes[i] for i in rule.columns(expression_of(subsets, genes, target))]
