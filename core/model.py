"""The base class of all models: a config, a device, a seed, and weights that can be saved and loaded."""

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
    """Base class of encoders, imputers and aligners.

    Parameters
    ----------
    config
        An instance of :attr:`config_class`, a mapping of plain values, or None for defaults.
    device
        A torch device string; ignored by models without tensors.
    seed
        Random seed; the same seed gives the same result.
    """

    name: ClassVar[str]
    """Name of the model, as in its :class:`~stzoo.core.specs.ModelSpec`."""
    config_class: ClassVar[type]
    """Dataclass of the model options."""

    provenance: Mapping[str, Any] = {}
    """Origin of the weights, set by :func:`stzoo.load`: name, source, sha256, format_version."""

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
        """How validation selected these weights during training, as JSON values; empty if it did not.

        ``sections`` (names), ``same_patient`` (whether one is from a training patient), ``watched`` (the monitored
        metric), ``figures`` (all metrics) and ``step`` of the selected weights, ``steps`` done and ``planned``.
        """
        return {}

    @property
    def uses_attention(self) -> bool:
        """Whether results depend on :func:`stzoo.core.nn.attention`, whose backend is then recorded."""
        return False

    def to(self, device: str) -> Self:
        """Move the model to a device and return it."""
        self.device = device
        return self

    def state(self) -> dict[str, torch.Tensor]:
        """Return all tensors of the model by name (empty for a model without weights)."""
        return {}

    def description(self) -> dict[str, Any]:
        """Return what belongs to the weights besides tensors, as JSON values: preprocessing, gene vocabulary."""
        return {}

    def assets(self) -> dict[str, bytes]:
        """Return further files to store with the weights, by name, e.g. ``tokenizer.json``."""
        return {}

    def restore(
        self, state: Mapping[str, torch.Tensor], description: Mapping[str, Any], assets: Mapping[str, bytes]
    ) -> None:
        """Restore what :meth:`state`, :meth:`description` and :meth:`assets` returned.

        Raises
        ------
        WeightsError
            A missing or unexpected key, or a wrong shape or dtype: no parameter is ever left random.
        """
        if state:
            raise WeightsError(f"model '{self.name}' has no weights, but the file has {len(state)} tensors")

    def save(self, folder: str | Path, *, card: str = "", overwrite: bool = False) -> Path:
        """Save the model as a repository folder (config.json, model.safetensors, README.md, MANIFEST.json).

        Parameters
        ----------
        folder
            Target folder, written atomically: next to it first, then moved into place.
        card
            Text of the model card (README.md).
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
        """Load a model from a repository folder; file digests are verified before any tensor is read."""
        from stzoo.core.weights.repository import open_repository

        with open_repository(Path(folder)) as repository:
            return cls.from_repository(repository, device=device)

    @classmethod
    def from_repository(cls, repository: Repository, *, device: str = "cpu") -> Self:
        """Load a model from an opened (and thereby verified) repository."""
        where = repository.folder
        if repository.method != cls.name:
            raise WeightsError(f"these weights belong to '{repository.method}', not to '{cls.name}'", where=where)
        model = cls(configs.build(cls.config_class, repository.config, where=where), device=device)
        model.restore(repository.tensors(), repository.description, repository.assets())
        return model.to(device)

    def start_from(self, folder: str | Path, *, source: str = "") -> Self:
        """Initialise training from a published checkpoint instead of random weights.

        Parameters
        ----------
        folder
            A safetensors file or a folder with one.
        source
            Its name in the weights' description; by default the folder name.

        Raises
        ------
        UsageError
            The model does not support starting from a checkpoint.
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
        """Train the model as its config says; return the final losses.

        Parameters
        ----------
        sections
            Training sections.
        out
            Folder for checkpoints and logs (:func:`stzoo.core.training.loop.fit`).
        validation
            Held-out sections on which the weights are scored during training; the best weights are kept (see
            :class:`stzoo.core.heads.held_out_sections.HeldOut`). Without them the last weights are kept.
        resume
            Continue the run in ``out``.
        progress
            Show a progress bar.
        trackers
            Names of trackers that log the run.
        ranks
            Processes of distributed training (:func:`stzoo.core.runtime.ranks.join_ranks`).

        Raises
        ------
        UsageError
            The model has nothing to train.
        """
        raise UsageError(f"model '{self.name}' has nothing to train", todo="use it as it is")


def provenance_of(model: Model) -> dict[str, Any]:
    """Return the provenance stored in ``uns["stzoo"]``: model, versions, weights, config, seed, attention backend."""
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
