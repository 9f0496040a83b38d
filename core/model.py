"""The contract that all roles share: a config, a device, a seed, and weights that save and load."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from stzoo.core import config as configs
from stzoo.core.data.section import Section
from stzoo.core.errors import UsageError, WeightsError
from stzoo.core.runtime.ranks import ALONE, Ranks

if TYPE_CHECKING:
    import torch
    from stzoo.core.weights.repository import Repository


class Model(ABC):
    """What every model has: a config, a device, a seed, and weights that save and load.

    Parameters
    ----------
    config
        An instance of :attr:`config_class`, a mapping of plain values, or None for the defaults.
    device
        A torch device string; models without tensors ignore it.
    seed
        Seed of everything random in the model; same seed, same result.
    """

    name: ClassVar[str]
    """Name of the model, as its :class:`~stzoo.core.specs.ModelSpec` has it."""
    config_class: ClassVar[type]
    """Dataclass of the options."""

    provenance: Mapping[str, Any] = {}
    """What :func:`stzoo.load` knows of the weights: name, source, sha256, format_version."""

    def __init__(self, config: Any = None, *, device: str = "cpu", seed: int = 0) -> None:
        if config is None or isinstance(config, Mapping):
            config = configs.build(self.config_class, config, where=f"model '{self.name}'")
        if not isinstance(config, self.config_class):
            raise UsageError(f"config of '{self.name}' is a {type(config).__name__}, not {self.config_class.__name__}")
        self.config = config
        self.device = device
        self.seed = seed

    @property
    def validated(self) -> Mapping[str, Any]:
        """How validation chose these weights while they were trained, as JSON values; empty where it did not.

        ``sections`` (names), ``same_patient`` (one of them is of a patient that was trained on), ``watched`` and
        ``figures`` (their metrics), and ``step`` of the weights that were kept, ``steps`` done and ``planned``.
        """
        return {}

    @property
    def uses_attention(self) -> bool:
        """Whether results come through :func:`stzoo.core.nn.attention`: its backend is noted beside them."""
        return False

    def to(self, device: str) -> Self:
        """Move the model to a device and return it."""
        self.device = device
        return self

    def state(self) -> dict[str, torch.Tensor]:
        """Return every tensor of the model by name (empty for a model without weights)."""
        return {}

    def description(self) -> dict[str, Any]:
        """Return what belongs to the weights besides tensors, as JSON values: preprocessing, gene vocabulary."""
        return {}

    def assets(self) -> dict[str, bytes]:
        """Return further files of the repository by name, e.g. ``tokenizer.json``."""
        return {}

    def restore(
        self, state: Mapping[str, torch.Tensor], description: Mapping[str, Any], assets: Mapping[str, bytes]
    ) -> None:
        """Take over what :meth:`state`, :meth:`description` and :meth:`assets` returned.

        Raises
        ------
        WeightsError
            A key is missing or left over, or a shape or dtype differs: nothing is ever left random.
        """
        if state:
            raise WeightsError(f"model '{self.name}' has no weights, but the file has {len(state)} tensors")

    def save(self, folder: str | Path, *, card: str = "", overwrite: bool = False) -> Path:
        """Write the model as a repository folder (config.json, model.safetensors, README.md, MANIFEST.json).

        Parameters
        ----------
        folder
            Where to; written beside it and moved there when whole.
        card
            Text of the model card.
        overwrite
            Replace an existing folder.
        """
        from stzoo.core.weights.repository import write_repository

        return write_repository(
            Path(folder),
            method=self.name,
            config=configs.dump(self.config),
            description=self.description(),
            tensors=self.state(),
            assets=self.assets(),
            card=card,
            overwrite=overwrite,
        )

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "cpu") -> Self:
        """Load a model from a repository folder; digests are checked before a tensor is read."""
        from stzoo.core.weights.repository import open_repository

        with open_repository(Path(folder)) as repository:
            return cls.from_repository(repository, device=device)

    @classmethod
    def from_repository(cls, repository: Repository, *, device: str = "cpu") -> Self:
        """Load a model from a repository that has been opened, and so verified."""
        where = repository.folder
        if repository.method != cls.name:
            raise WeightsError(f"these weights belong to '{repository.method}', not to '{cls.name}'", where=where)
        model = cls(configs.build(cls.config_class, repository.config, where=where), device=device)
        model.restore(repository.tensors(), repository.description, repository.assets())
        return model.to(device)

    def start_from(self, folder: str | Path, *, source: str = "") -> Self:
        """Let training start from a foreign checkpoint instead of random weights.

        Parameters
        ----------
        folder
            A safetensors file or a folder with one.
        source
            What to call it in the weights' description; by default the folder's name.

        Raises
        ------
        UsageError
            The model starts from no foreign checkpoint.
        """
        raise UsageError(f"'{self.name}' takes no starting weights", todo="train it without --start")

    def train(
        self,
        sections: Sequence[Section],
        *,
        out: Path,
        validation: Sequence[Section] = (),
        resume: bool = False,
        progress: bool = True,
        trackers: Sequence[str] = (),
        ranks: Ranks = ALONE,
    ) -> Mapping[str, float]:
        """Train the model from its config; return the last losses. Models without training say so.

        Parameters
        ----------
        sections
            What to train on.
        out
            Folder of checkpoints and logs (:func:`stzoo.core.training.loop.fit`).
        validation
            Sections that are never learned from, on which the weights are judged while the run goes on: it ends with
            the best (see :class:`stzoo.core.heads.held_out_sections.HeldOut`). By default with the last, unjudged.
        resume
            Go on with the run in ``out``.
        progress
            Draw a bar.
        trackers
            Names of trackers that are told of the run.
        ranks
            The processes that train together (:func:`stzoo.core.runtime.ranks.join_ranks`).
        """
        raise UsageError(f"model '{self.name}' has nothing to train", todo="use it as it is")


def provenance_of(model: Model) -> dict[str, Any]:
    """Return what ``uns["stzoo"]`` says of a result: model, versions, weights, config, seed, backend of attention."""
    import json
    from importlib.metadata import PackageNotFoundError, version

    package = type(model).__module__.split(".")[0]
    try:
        package_version = version(package)
    except PackageNotFoundError:
        package_version = "unknown"
    return {
        "model": model.name,
        "package": package,
        "version": package_version,
        "config": json.dumps(configs.dump(model.config), sort_keys=True),
        "seed": model.seed,
        **_attention(model),
        **{f"weights_{key}": value for key, value in model.provenance.items()},
    }


def _attention(model: Model) -> dict[str, str]:
    if not model.uses_attention:
        return {}
    from stzoo.core.nn.scaled_dot_product import backend_in_use

    return {"attention": backend_in_use(model.device)}
