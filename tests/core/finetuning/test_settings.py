"""What is tuned, said in words or left to the size of the data."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from stzoo.core.encoder import Encoder
from stzoo.core.errors import ConfigError, UsageError
from stzoo.core.finetuning.settings import ENOUGH, Settings, Tune, has_network, read_settings, resolve_settings


@dataclass
class Config:
    """Nothing to choose."""


class Frozen(Encoder):
    """An encoder without a network."""

    name, config_class, embedding_dim = "frozen", Config, 3

    def embed(self, section):
        raise AssertionError


class Network(Frozen):
    """One with a network."""

    def tunable(self, *sections, **options):
        raise AssertionError


def test_words_and_overrides_make_settings():
    made = read_settings("lora", True, ["rank=2", "rates.steps=7", "validations=3"])
    assert (made.tune, made.contrast, made.rank, made.rates.steps, made.validations) == (Tune.lora, True, 2, 7, 3)
    assert read_settings() == Settings()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("ful",), UsageError, "'ful' can not be tuned.*full"),
        (("head", True), UsageError, "a head has no contrast"),
        (("full", None, ["rnak=2"]), ConfigError, "rank"),
        (("full", None, ["rates.steps=many"]), ConfigError, "steps"),
        (("full", None, ["accumulate=0"]), UsageError, "accumulate is 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(arguments, error, words):
    with pytest.raises(error, match=words):
        read_settings(*arguments)


@pytest.mark.parametrize(
    ("encoder", "spots", "tune"),
    [(Frozen, ENOUGH, "head"), (Network, ENOUGH, "full"), (Network, ENOUGH - 1, "head")],
)
def test_a_network_is_tuned_where_there_is_one_and_enough_to_learn_from(encoder, spots, tune):
    assert has_network(encoder()) == (encoder is Network)
    assert resolve_settings(read_settings(), spots, encoder()).tune.value == tune
    for named in ("head", "full", "lora"):
        assert resolve_settings(read_settings(named), spots, encoder()).tune.value == named


def test_a_batch_is_no_larger_than_the_data_and_a_head_has_no_contrast():
    made = resolve_settings(read_settings("full", True, ["rates.batch=64"]), 20, Network())
    assert (made.rates.batch, made.contrast) == (20, True)
    assert resolve_settings(Settings(tune=Tune.head, contrast=True), 20, Network()).contrast is False
    assert resolve_settings(Settings(tune=Tune.full), 20, Network()).contrast is False
