"""Training recipes: which model, on which sections, with which options; and models trained by them."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stzoo.core import config as configs
from stzoo.core.data.section import Section
from stzoo.core.discovery.manager import default_manager
from stzoo.core.errors import ConfigError, UsageError, nearest
from stzoo.core.registry import model_class
from stzoo.core.runtime.ranks import ALONE, Ranks
from stzoo.core.runtime.resources import resource
from stzoo.core.specs import ModelSpec
from stzoo.core.training.task import Precision
from stzoo.core.weights.manifest import MANIFEST


@dataclass
class Recipe:
    """A training recipe.

    Parameters
    ----------
    sections
        Training sections, ``FOLDER::NAME`` below the data folder.
    seed
        Seed of the run.
    config
        Options of the model.
    card
        What the model card says: heading -> text; ``summary`` and ``license`` as well.
    """

    sections: list[str] = field(default_factory=list)
    seed: int = 0
    config: dict[str, Any] = field(default_factory=dict)
    card: dict[str, str] = field(default_factory=dict)


def recipe_path(name: str, folder: str) -> Path:
    """Return a training recipe: a path to a YAML file, or the name of one in a model's folder of recipes."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise UsageError(f"no such recipe: {path}", todo="check the path")
        return path
    known = {p.stem: p for p in sorted(resource(folder).glob("*.yaml"))} if folder else {}
    if name not in known:
        raise UsageError(
            f"no recipe '{name}'{nearest(name, known)}",
            where=f"recipes: {', '.join(known) or 'none'}",
            todo="name one, or give a YAML file",
        )
    return known[name]


def load_recipe(model: str, name: str, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe of a model by name or path, with ``key=value`` overrides of its config.

    Raises
    ------
    ConfigError
        An unknown key, of the recipe or of the model's options.
    UsageError
        No such recipe.
    """
    path = recipe_path(name, default_manager().find(ModelSpec, model)[1].recipes)
    found = configs.build(Recipe, configs.read_yaml(path), where=path)
    found.config = configs.override(found.config, overrides or [])
    configs.build(model_class(model).config_class, found.config, where=path)
    if not found.sections:
        raise ConfigError("'sections' is missing or empty", where=path, todo="name the training sections")
    return found


def fingerprint(model: str, name: str, sections: Sequence[Section], overrides: list[str] | None = None) -> str:
    """Return ten digits that change with the options and the sections (name, spots, genes) a model is trained by."""
    cls = model_class(model)
    options = configs.dump(configs.build(cls.config_class, load_recipe(model, name, overrides).config))
    data = [(section.name, section.n_spots, section.genes) for section in sections]
    return hashlib.sha256(json.dumps([options, data], sort_keys=True).encode()).hexdigest()[:10]


def loop_options(model: str, accumulate: int | None, precision: str | None) -> list[str]:
    """Return the overrides of a recipe that set how a step is computed (:func:`stzoo.core.training.loop.fit`).

    Parameters
    ----------
    accumulate, precision
        Micro-batches a step, and what they are computed in; None leaves it to the recipe.

    Raises
    ------
    UsageError
        There is no such precision, or the model has no such option.
    """
    precision = None if precision is None else Precision.read(precision).value
    given = {key: value for key, value in (("accumulate", accumulate), ("precision", precision)) if value is not None}
    options = getattr(model_class(model).config_class(), "train", None)
    for key in given:
        if not hasattr(options, key):
            raise UsageError(f"'{model}' has no option train.{key}", todo=f"train it without --{key}")
    return [f"train.{key}={value}" for key, value in given.items()]


def computation(run: Path) -> str:
    """Say how the steps of a finished run were computed; empty for one batch a step in float32, as by default."""
    from stzoo.core.training.checkpoint import describe_last

    last = describe_last(run)
    parts, precision = last.get("accumulate", 1), last.get("precision", "fp32")
    words = [f"{parts} micro-batches a step, each with negatives of its own"] if parts > 1 else []
    words += [f"computed in {precision}"] if precision != "fp32" else []
    return "; ".join(words)


def require_validation(model: str) -> None:
    """Refuse, before anything is read, to judge a model that can not be judged while it trains.

    Raises
    ------
    UsageError
        Its ``train`` takes no validation sections: a plugin that is older than they are.
    """
    known = inspect.signature(model_class(model).train).parameters.values()
    if not any(one.name == "validation" or one.kind is one.VAR_KEYWORD for one in known):
        raise UsageError(f"'{model}' can not be judged while it trains", todo="train it without --validate")


def train_or_load(
    model: str,
    name: str,
    sections: Sequence[Section],
    *,
    seed: int,
    folder: Path,
    overrides: list[str] | None = None,
    validation: Sequence[Section] = (),
    card: Callable[[Any], str] = lambda made: "",
    start: Path | None = None,
    start_name: str = "",
    trackers: Sequence[str] = (),
    ranks: Ranks = ALONE,
    device: str = "cpu",
) -> Any:
    """Return a model trained by a recipe; one that stands in ``folder`` already is loaded, a stopped run goes on.

    Parameters
    ----------
    folder
        ``folder/run`` holds checkpoints and the log, ``folder/weights`` the repository.
    validation
        Sections that judge the weights while they are trained (:meth:`Model.train`).
    card
        Makes the text of the model card of the trained model.
    start, start_name
        A foreign checkpoint to start from (:meth:`Model.start_from`), and what to call it.
    trackers, ranks
        Who is told of the run, and the processes that train together; rank 0 writes the repository.
    device
        Torch device to train on.
    """
    cls = model_class(model)
    weights = folder / "weights"
    if (weights / MANIFEST).is_file():
        return cls.load(weights)
    if validation:
        require_validation(model)
    made = cls(load_recipe(model, name, overrides).config, device=device, seed=seed)
    if start is not None:
        made.start_from(start, source=start_name)
    more: dict[str, Any] = {"trackers": trackers, "ranks": ranks} if trackers or ranks.world > 1 else {}
    if validation:
        more["validation"] = validation
    made.train(sections, out=folder / "run", resume=True, **more)  # plugins may be older than these three
    if ranks.is_main:
        made.save(weights, card=card(made))
    ranks.barrier()
    return made
