"""What every model has: a config that is checked, and weights that come back or are refused."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from stzoo.core.errors import ConfigError, OutputError, UsageError, WeightsError
from stzoo.core.model import Model, provenance_of


@dataclass
class Config:
    width: int = 3


class Line(Model):
    """A model with one tensor."""

    name, config_class = "line", Config

    def __init__(self, config=None, *, device="cpu", seed=0):
        super().__init__(config, device=device, seed=seed)
        self.weights = torch.arange(float(self.config.width)) + seed

    def state(self):
        return {"weights": self.weights}

    def description(self):
        return {"genes": ["A", "B"]}

    def assets(self):
        return {"words.txt": b"one two"}

    def restore(self, state, description, assets):
        self.weights, self.restored = state["weights"], (description, assets)


class Plain(Model):
    """A model without weights."""

    name, config_class = "plain", Config


def test_a_config_is_an_instance_plain_values_or_the_defaults():
    assert Plain().config == Config(3)
    assert Plain({"width": 5}).config == Plain(Config(5)).config == Config(5)
    with pytest.raises(ConfigError, match="widht"):
        Plain({"widht": 5})
    with pytest.raises(UsageError, match="config of 'plain' is a int, not Config"):
        Plain(5)


@pytest.mark.parametrize("model", [Line({"width": 4}, seed=2), Plain({"width": 7})])
def test_what_is_saved_comes_back(tmp_path, model):
    folder = model.save(tmp_path / "weights", card="# A card\n")
    again = type(model).load(folder)
    assert again.config == model.config
    assert again.state().keys() == model.state().keys()
    for name, tensor in model.state().items():
        assert torch.equal(again.state()[name], tensor)
    if isinstance(again, Line):
        assert again.restored == ({"genes": ["A", "B"]}, {"words.txt": b"one two"})
    with pytest.raises(OutputError, match="exists already"):
        model.save(folder)
    model.save(folder, overwrite=True)


def test_weights_of_another_model_are_refused(tmp_path):
    folder = Line().save(tmp_path / "weights")
    with pytest.raises(WeightsError, match="belong to 'line', not to 'plain'"):
        Plain.load(folder)
    with pytest.raises(WeightsError, match="'plain' has no weights, but the file has 1 tensors"):
        Plain().restore({"weights": torch.zeros(1)}, {}, {})


def test_what_a_model_can_not_do_it_says(tmp_path):
    with pytest.raises(UsageError, match="nothing to train"):
        Plain().train([], out=tmp_path)
    with pytest.raises(UsageError, match="takes no starting weights"):
        Plain().start_from(tmp_path)
    assert Plain().validated == {}


def test_a_result_says_what_made_it():
    model = Line({"width": 2}, seed=9)
    model.provenance = {"name": "line-tiny", "sha256": "00"}
    said = provenance_of(model)
    assert (said["model"], said["seed"], said["config"]) == ("line", 9, '{"width": 2}')
    assert (said["weights_name"], said["weights_sha256"]) == ("line-tiny", "00")
