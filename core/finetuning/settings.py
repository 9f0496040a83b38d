"""How to fine-tune: what is tuned and how fast, with defaults from the size of the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from stzoo.core import config as configs
from stzoo.core.encoder import Encoder
from stzoo.core.errors import UsageError, nearest
from stzoo.core.finetuning.task import Rates
from stzoo.core.training.task import Precision


class Tune(Enum):
    """What of the weights is tuned."""

    auto = "auto"
    """By the number of training spots, see :func:`resolve_settings`."""
    head = "head"
    """Only the head, drawn towards the one that the weights bring along."""
    full = "full"
    """The whole image tower (with ``contrast`` the text tower too)."""
    lora = "lora"
    """Low-rank adapters on the image tower, merged at the end."""


ENOUGH = 1000
"""Training spots from which a network is tuned by default. On 180 spots that gained nothing (docs/finetune.md)."""


@dataclass
class Settings:
    """How to fine-tune.

    Parameters
    ----------
    tune
        What is tuned.
    contrast
        The model's own pretraining objective goes on beside the supervised one; None: as the size of the data suggests.
    rank
        Of the low-rank adapters.
    validations
        Times that the weights are judged on the validation spots; the best are kept.
    patience
        Validations without improvement after which tuning stops.
    rates
        Steps, rates, weights of the losses.
    accumulate, precision
        Micro-batches of ``rates.batch`` spots a step, and what steps are computed in
        (:func:`stzoo.core.training.loop.fit`); a head alone is fitted without steps.
    """

    tune: Tune = Tune.auto
    contrast: bool | None = None
    rank: int = 8
    validations: int = 6
    patience: int = 3
    rates: Rates = field(default_factory=Rates)
    accumulate: int = 1
    precision: Precision = Precision.fp32


def resolve_settings(settings: Settings, spots: int, encoder: Encoder) -> Settings:
    """Return settings without an open choice.

    Parameters
    ----------
    spots
        Spots to train on.
    encoder
        What is tuned: one without a network has its head fitted.
    """
    tune = settings.tune
    if tune is Tune.auto:
        tune = Tune.head if spots < ENOUGH or not has_network(encoder) else Tune.full
    contrast = False if tune is Tune.head or settings.contrast is None else settings.contrast
    rates = replace(settings.rates, batch=min(settings.rates.batch, spots))
    return replace(settings, tune=tune, contrast=contrast, rates=rates)


def has_network(encoder: Encoder) -> bool:
    """Say whether an encoder offers a network to tune."""
    return type(encoder).tunable is not Encoder.tunable


def read_settings(
    tune: str = "auto", contrast: bool | None = None, overrides: Sequence[str] = (), where: str = "settings"
) -> Settings:
    """Return settings from words, with ``key=value`` overrides such as ``rates.steps=50``.

    Raises
    ------
    UsageError
        There is no such way of tuning, a head has no objective of its own, or a key is unknown or ill-typed.
    """
    ways = [way.value for way in Tune]
    if tune not in ways:
        raise UsageError(f"'{tune}' can not be tuned{nearest(tune, ways)}", todo=f"--tune {', '.join(ways)}")
    if tune == "head" and contrast:
        raise UsageError("a head has no contrast to tune by", todo="leave --contrast out, or --tune full")
    settings: Settings = configs.build(Settings, configs.override({"tune": tune}, list(overrides)), where=where)
    if settings.accumulate < 1:
        raise UsageError(f"accumulate is {settings.accumulate}", todo="give a whole number, 1 or more")
    return replace(settings, contrast=contrast) if contrast is not None else settings
