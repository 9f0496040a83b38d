"""stzoo: spatial transcriptomics models behind three small interfaces, with a model zoo.

Everything that users and authors of plugins need is ``stzoo.<name>``; names are imported on first use, so
``import stzoo`` is instant. Below ``stzoo.core`` the toolkits ``nn``, ``gp``, ``training``, ``metrics`` and ``slides``
keep their names within a version of the plugin interface; everything else there may change.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stzoo.core.aligner import Aligner as Aligner
    from stzoo.core.conformance import conformance_tests as conformance_tests
    from stzoo.core.data.section import Section as Section
    from stzoo.core.data.section import Stack as Stack
    from stzoo.core.encoder import Encoder as Encoder
    from stzoo.core.encoder import Head as Head
    from stzoo.core.encoder import Prediction as Prediction
    from stzoo.core.errors import ConfigError as ConfigError
    from stzoo.core.errors import DataError as DataError
    from stzoo.core.errors import GeneError as GeneError
    from stzoo.core.errors import OutputError as OutputError
    from stzoo.core.errors import PluginError as PluginError
    from stzoo.core.errors import StzooError as StzooError
    from stzoo.core.errors import UnitsError as UnitsError
    from stzoo.core.errors import UsageError as UsageError
    from stzoo.core.errors import WeightsError as WeightsError
    from stzoo.core.evaluation.protocol import Protocol as Protocol
    from stzoo.core.evaluation.protocol import Row as Row
    from stzoo.core.evaluation.protocol import SplitProtocol as SplitProtocol
    from stzoo.core.evaluation.task import Column as Column
    from stzoo.core.evaluation.task import SplitTask as SplitTask
    from stzoo.core.evaluation.task import Task as Task
    from stzoo.core.geometry.transform import Transform as Transform
    from stzoo.core.heads.base import gene_columns as gene_columns
    from stzoo.core.heads.base import head_descriptions as head_descriptions
    from stzoo.core.heads.base import head_tensors as head_tensors
    from stzoo.core.heads.base import take_heads as take_heads
    from stzoo.core.hookspecs import hookimpl as hookimpl
    from stzoo.core.imputer import Filled as Filled
    from stzoo.core.imputer import FilledPart as FilledPart
    from stzoo.core.imputer import Imputer as Imputer
    from stzoo.core.imputer import PartImputer as PartImputer
    from stzoo.core.io.read import inspect as inspect
    from stzoo.core.io.read import read as read
    from stzoo.core.io.read_stack import read_stack as read_stack
    from stzoo.core.io.synthetic import synthetic_section as synthetic_section
    from stzoo.core.io.volume import Volume as Volume
    from stzoo.core.io.write import write as write
    from stzoo.core.reader import Reader as Reader
    from stzoo.core.registry import list_models as list_models
    from stzoo.core.registry import model as model
    from stzoo.core.runtime.blocks import BlockShare as BlockShare
    from stzoo.core.runtime.progress import Progress as Progress
    from stzoo.core.runtime.ranks import Ranks as Ranks
    from stzoo.core.slides.slide import Slide as Slide
    from stzoo.core.specs import HeadSpec as HeadSpec
    from stzoo.core.specs import ModelSpec as ModelSpec
    from stzoo.core.specs import ProtocolSpec as ProtocolSpec
    from stzoo.core.specs import ReaderSpec as ReaderSpec
    from stzoo.core.specs import Role as Role
    from stzoo.core.specs import TaskSpec as TaskSpec
    from stzoo.core.specs import TrackerSpec as TrackerSpec
    from stzoo.core.specs import WeightsSpec as WeightsSpec
    from stzoo.core.tunable import Tunable as Tunable
    from stzoo.core.weights.listing import weights_from_yaml as weights_from_yaml
    from stzoo.core.weights.repository import restore_module as restore_module
    from stzoo.core.workflows.align_pair import align as align
    from stzoo.core.workflows.densify import densify as densify
    from stzoo.core.workflows.design import design as design
    from stzoo.core.workflows.embed import embed as embed
    from stzoo.core.workflows.impute import impute as impute
    from stzoo.core.workflows.impute_stack import impute_stack as impute_stack
    from stzoo.core.workflows.predict import predict as predict
    from stzoo.core.workflows.query import query as query
    from stzoo.zoo.catalogue import list_weights as list_weights
    from stzoo.zoo.evaluating import evaluate as evaluate
    from stzoo.zoo.finetuning import finetune as finetune
    from stzoo.zoo.loading import load as load

_HOMES = {
    "Aligner": "stzoo.core.aligner",
    "BlockShare": "stzoo.core.runtime.blocks",
    "Column": "stzoo.core.evaluation.task",
    "ConfigError": "stzoo.core.errors",
    "DataError": "stzoo.core.errors",
    "Encoder": "stzoo.core.encoder",
    "Filled": "stzoo.core.imputer",
    "FilledPart": "stzoo.core.imputer",
    "GeneError": "stzoo.core.errors",
    "Head": "stzoo.core.encoder",
    "HeadSpec": "stzoo.core.specs",
    "Imputer": "stzoo.core.imputer",
    "ModelSpec": "stzoo.core.specs",
    "OutputError": "stzoo.core.errors",
    "PartImputer": "stzoo.core.imputer",
    "PluginError": "stzoo.core.errors",
    "Prediction": "stzoo.core.encoder",
    "Progress": "stzoo.core.runtime.progress",
    "Protocol": "stzoo.core.evaluation.protocol",
    "ProtocolSpec": "stzoo.core.specs",
    "Ranks": "stzoo.core.runtime.ranks",
    "Reader": "stzoo.core.reader",
    "ReaderSpec": "stzoo.core.specs",
    "Role": "stzoo.core.specs",
    "Row": "stzoo.core.evaluation.protocol",
    "Section": "stzoo.core.data.section",
    "Slide": "stzoo.core.slides.slide",
    "SplitProtocol": "stzoo.core.evaluation.protocol",
    "SplitTask": "stzoo.core.evaluation.task",
    "Stack": "stzoo.core.data.section",
    "StzooError": "stzoo.core.errors",
    "Task": "stzoo.core.evaluation.task",
    "TaskSpec": "stzoo.core.specs",
    "TrackerSpec": "stzoo.core.specs",
    "Transform": "stzoo.core.geometry.transform",
    "Tunable": "stzoo.core.tunable",
    "UnitsError": "stzoo.core.errors",
    "UsageError": "stzoo.core.errors",
    "Volume": "stzoo.core.io.volume",
    "WeightsError": "stzoo.core.errors",
    "WeightsSpec": "stzoo.core.specs",
    "align": "stzoo.core.workflows.align_pair",
    "conformance_tests": "stzoo.core.conformance",
    "densify": "stzoo.core.workflows.densify",
    "design": "stzoo.core.workflows.design",
    "embed": "stzoo.core.workflows.embed",
    "evaluate": "stzoo.zoo.evaluating",
    "finetune": "stzoo.zoo.finetuning",
    "gene_columns": "stzoo.core.heads.base",
    "head_descriptions": "stzoo.core.heads.base",
    "head_tensors": "stzoo.core.heads.base",
    "hookimpl": "stzoo.core.hookspecs",
    "impute": "stzoo.core.workflows.impute",
    "impute_stack": "stzoo.core.workflows.impute_stack",
    "inspect": "stzoo.core.io.read",
    "list_models": "stzoo.core.registry",
    "list_weights": "stzoo.zoo.catalogue",
    "load": "stzoo.zoo.loading",
    "model": "stzoo.core.registry",
    "predict": "stzoo.core.workflows.predict",
    "query": "stzoo.core.workflows.query",
    "read": "stzoo.core.io.read",
    "read_stack": "stzoo.core.io.read_stack",
    "restore_module": "stzoo.core.weights.repository",
    "synthetic_section": "stzoo.core.io.synthetic",
    "take_heads": "stzoo.core.heads.base",
    "weights_from_yaml": "stzoo.core.weights.listing",
    "write": "stzoo.core.io.write",
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
