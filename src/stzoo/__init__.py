"""stzoo: spatial transcriptomics models behind three small interfaces, with a model zoo.

Everything a user needs is ``stzoo.<name>``; names are imported on first use, so ``import stzoo`` is instant.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stzoo.core.aligner import Aligner as Aligner
    from stzoo.core.data.section import Section as Section
    from stzoo.core.data.section import Stack as Stack
    from stzoo.core.encoder import Encoder as Encoder
    from stzoo.core.errors import StzooError as StzooError
    from stzoo.core.geometry.transform import Transform as Transform
    from stzoo.core.hookspecs import hookimpl as hookimpl
    from stzoo.core.imputer import Imputer as Imputer
    from stzoo.core.io.read import read as read
    from stzoo.core.io.read_stack import read_stack as read_stack
    from stzoo.core.registry import model as model
    from stzoo.core.slides.slide import Slide as Slide
    from stzoo.core.specs import ModelSpec as ModelSpec
    from stzoo.core.specs import ProtocolSpec as ProtocolSpec
    from stzoo.core.specs import ReaderSpec as ReaderSpec
    from stzoo.core.specs import TrackerSpec as TrackerSpec
    from stzoo.core.specs import WeightsSpec as WeightsSpec
    from stzoo.zoo.finetuning import finetune as finetune
    from stzoo.zoo.loading import load as load

_HOMES = {
    "Aligner": "stzoo.core.aligner",
    "Encoder": "stzoo.core.encoder",
    "Imputer": "stzoo.core.imputer",
    "ModelSpec": "stzoo.core.specs",
    "ProtocolSpec": "stzoo.core.specs",
    "ReaderSpec": "stzoo.core.specs",
    "Section": "stzoo.core.data.section",
    "Slide": "stzoo.core.slides.slide",
    "Stack": "stzoo.core.data.section",
    "StzooError": "stzoo.core.errors",
    "TrackerSpec": "stzoo.core.specs",
    "Transform": "stzoo.core.geometry.transform",
    "WeightsSpec": "stzoo.core.specs",
    "finetune": "stzoo.zoo.finetuning",
    "hookimpl": "stzoo.core.hookspecs",
    "load": "stzoo.zoo.loading",
    "model": "stzoo.core.registry",
    "read": "stzoo.core.io.read",
    "read_stack": "stzoo.core.io.read_stack",
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
