"""A case: one subject with a model that is ready, and the sections that it is asked about."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from stzoo.core.arrays import Floats
from stzoo.core.conformance import data
from stzoo.core.conformance.answers import Answer, answer
from stzoo.core.conformance.checks import CheckSkipped, ConformanceError
from stzoo.core.conformance.conformance import Conformance
from stzoo.core.data.section import Section
from stzoo.core.discovery.manager import resolve
from stzoo.core.encoder import Encoder
from stzoo.core.errors import StzooError
from stzoo.core.model import Model
from stzoo.core.specs import ModelSpec, WeightsSpec

if TYPE_CHECKING:
    from stzoo.core.conformance.subjects import CheckedPlugin

T = TypeVar("T")


class CheckContext:
    """One subject with the model and the sections that it is checked on.

    Parameters
    ----------
    subject
        Who is checked.
    given
        What its author said about making the model.
    """

    def __init__(self, subject: CheckedPlugin, given: Conformance) -> None:
        self.subject, self.given = subject, given
        self._remembered: dict[str, Any] = {}
        self.refits = False  # an encoder came without a head, and gets one

    def once(self, what: str, make: Callable[[], T]) -> T:
        """Return what several checks of this subject need, made by the first."""
        if what not in self._remembered:
            self._remembered[what] = make()
        found: T = self._remembered[what]
        return found

    @property
    def record(self) -> Any:
        """The record of the model or reader."""
        return self.subject.record

    @cached_property
    def cls(self) -> type[Model]:
        """The class of the model."""
        found: type[Model] = resolve(self.record.target)
        return found

    def fresh(self) -> Any:
        """Make a ready model: the author's, one with packaged weights, or one from the config.

        The head of an encoder that has none is fitted on the second section.
        """
        model = self._make_model()
        if isinstance(model, Encoder) and not model.genes():
            self.refits = True
            model.fit([self.sections[1]], head=model.default_head)
        return model

    def _make_model(self) -> Model:
        if self.given.make is not None:
            return self.given.make()
        weights = self._packaged
        if weights is None or self.given.config is not None:
            return self.cls(dict(self.given.config or {}))
        from stzoo.core.runtime.resources import package_folder

        return self.cls.load(package_folder(weights.source))

    @property
    def _packaged(self) -> WeightsSpec | None:
        """The first weights of this model that its plugin carries."""
        records = self.subject.plugin.specs
        own = [r for r in records if isinstance(r, WeightsSpec) and isinstance(self.record, ModelSpec)]
        fitting = [r for r in own if r.model == self.record.name and r.source.startswith("package://")]
        return fitting[0] if fitting else None

    @cached_property
    def _ready(self) -> Any:
        try:
            return self.fresh()
        except StzooError as error:
            return error

    @property
    def model(self) -> Any:
        """The model that checks share; those that change it make a fresh one."""
        if isinstance(self._ready, StzooError):
            raise CheckSkipped("there is no model to ask: see 'answers'")
        return self._ready

    def ready(self) -> None:
        """Say why there is no model, where there is none."""
        if isinstance(self._ready, StzooError):
            raise ConformanceError(
                f"no model could be made that works: {self._ready}",
                "package weights with the plugin, or give a ready model: conformance_tests(..., make=...)",
            )

    @cached_property
    def sections(self) -> tuple[Section, Section]:
        """The two sections that the subject is asked about."""
        first, second = self.untouched
        return data.copy_section(first), data.copy_section(second)

    @cached_property
    def untouched(self) -> tuple[Section, Section]:
        """The same two, which no model has seen: one that changes what it is given leaves them as they were."""
        if self.given.sections is not None:
            first, second = self.given.sections()
            return first, second
        whole = bool(getattr(self.cls, "needs_whole_section", False))
        return data.sections_of(self.subject.role, whole=whole)

    @cached_property
    def others(self) -> tuple[Section, Section]:
        """Two more of the same names and places, of another tissue."""
        return tuple(data.other_tissue(one) for one in self.sections)  # type: ignore[return-value]

    @cached_property
    def embedding(self) -> Floats:
        """What the shared encoder makes of the first section."""
        found: Floats = self.model.embed(self.sections[0])
        return found

    @cached_property
    def expected(self) -> Answer:
        """What the shared model says of the sections."""
        return answer(self.model, self.sections)
