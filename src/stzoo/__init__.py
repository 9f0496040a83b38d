"""stzoo: spatial transcriptomics models behind three small interfaces, with a model zoo.

Everything a user needs is ``stzoo.<name>``; names are imported on first use, so ``import stzoo`` is instant.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stzoo.core.errors import StzooError as StzooError
    from stzoo.core.hookspecs import hookimpl as hookimpl
    from stzoo.core.image import Slide as Slide
    from stzoo.core.interfaces import Aligner as Aligner
    from stzoo.core.interfaces import Encoder as Encoder
    from stzoo.core.interfaces import Imputer as Imputer
    from stzoo.core.reading import read as read
    from stzoo.core.records import ModelSpec as ModelSpec
    from stzoo.core.records import ProtocolSpec as ProtocolSpec
    from stzoo.core.records import ReaderSpec as ReaderSpec
    from stzoo.core.records import TrackerSpec as TrackerSpec
    from stzoo.core.records import WeightsSpec as WeightsSpec
    from stzoo.core.registry import model as model
    from stzoo.core.section import Section as Section
    from stzoo.core.section import Stack as Stack
    from stzoo.core.stack_reading import read_stack as read_stack
    from stzoo.core.transform import Transform as Transform
    from stzoo.zoo.finetuning import finetune as finetune
    from stzoo.zoo.loading import load as load

_HOMES = {
    "Aligner": "stzoo.core.interfaces",
    "Encoder": "stzoo.core.interfaces",
    "Imputer": "stzoo.core.interfaces",
    "ModelSpec": "stzoo.core.records",
    "ProtocolSpec": "stzoo.core.records",
    "ReaderSpec": "stzoo.core.records",
    "Section": "stzoo.core.section",
    "Slide": "stzoo.core.image",
    "Stack": "stzoo.core.section",
    "StzooError": "stzoo.core.errors",
    "TrackerSpec": "stzoo.core.records",
    "Transform": "stzoo.core.transform",
    "WeightsSpec": "stzoo.core.records",
    "finetune": "stzoo.zoo.finetuning",
    "hookimpl": "stzoo.core.hookspecs",
    "load": "stzoo.zoo.loading",
    "model": "stzoo.core.registry",
    "read": "stzoo.core.reading",
    "read_stack": "stzoo.core.stack_reading",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    """Import a public name on first use."""
    if name == "__version__":
        from importlib.metadata import version

        return version("stzoo")
    if name not in _HOMES:
        raise AttributeError(f"module 'stzoo' has no attribute '{name}'")
    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return [*__all__, "__version__"]
