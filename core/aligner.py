"""The interface of aligners: they find the transform between two sections."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from stzoo.core.data.section import Section
from stzoo.core.model import Model
from stzoo.core.runtime.progress import Progress

if TYPE_CHECKING:
    from stzoo.core.geometry.transform import Transform


class Aligner(Model):
    """Registers a moving section to a fixed one."""

    @abstractmethod
    def align(self, moving: Section, fixed: Section, *, progress: Progress | None = None) -> Transform:
        """Return the transform from micrometres of ``moving`` to micrometres of ``fixed``."""
