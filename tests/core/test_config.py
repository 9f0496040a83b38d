from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stzoo.core.config import build, dump, override, read_yaml
from stzoo.core.errors import ConfigError


class Kind(Enum):
    RIDGE = "ridge"
    NEAREST = "nearest"


@dataclass
class Inner:
    steps: int = 10
    rate: float = 0.1

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ValueError("steps must not be negative")


@dataclass
class Outer:
    name: str = "a"
    wide: bool = False
    limit: int | None = None
    kind: Kind = Kind.RIDGE
    sizes: list[int] = field(default_factory=lambda: [1, 2])
    train: Inner = field(default_factory=Inner)
    other: Inner = field(default_factory=lambda: Inner(steps=3))


def test_defaults_and_nested_values():
    assert build(Outer) == Outer()
    config = build(Outer, {"train": {"steps": 3}, "sizes": [4], "kind": "NEAREST"})
    assert config == Outer(train=Inner(steps=3), sizes=[4], kind=Kind.NEAREST)


@settings(deadline=None)  # the first example imports OmegaConf
@given(
    st.builds(
        Outer,
        name=st.text(st.characters(codec="ascii", exclude_characters="$?")),
        wide=st.booleans(),
        limit=st.none() | st.integers(-(2**40), 2**40),
        kind=st.sampled_from(Kind),
        sizes=st.lists(st.integers(0, 9)),
        train=st.builds(Inner, steps=st.integers(0, 99), rate=st.floats(allow_nan=False, allow_infinity=False)),
    )
)
def test_a_config_comes_back_as_it_went(config):
    assert build(Outer, dump(config)) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nme": "b"}, "unknown key 'nme' of Outer; did you mean 'name'"),
        ({"train": {"step": 1}}, "unknown key 'train.step' of Inner; did you mean 'steps'"),
        ({"other": {"step": 1}}, "unknown key 'other.step' of Inner"),
        ({"zzz": 1}, "known keys: name, wide"),
        ({3: 1}, "unknown key '3'"),
        ({"train": {"steps": "many"}}, "'many' of type 'str' could not be converted to Integer"),
        ({"train": {"steps": 1.5}}, "could not be converted to Integer"),
        ({"train": {"steps": None}}, "Incompatible value 'None'"),
        ({"train": 3}, "'train' is 3, expected keys of Inner"),
        ({"sizes": "abc"}, "sizes"),
        ({"sizes": ["x"]}, "could not be converted to Integer"),
        ({"kind": "other"}, "expected one of [RIDGE, NEAREST]"),
        ({"train": {"steps": -1}}, "steps must not be negative"),
    ],
)
def test_a_wrong_value_names_its_key(values, message):
    with pytest.raises(ConfigError) as caught:
        build(Outer, values, where="recipe.yaml")
    assert message in str(caught.value)
    assert "where: recipe.yaml" in str(caught.value)


@pytest.mark.parametrize("value", ["${oc.env:HOME}", "x${name}", "???"])
@pytest.mark.parametrize("place", ["name", "nested"])
def test_a_config_can_not_read_the_environment(value, place):
    values = {"name": value} if place == "name" else {"train": {"rate": value}}
    with pytest.raises(ConfigError, match="references are not read"):
        build(Outer, values)


def test_overrides_of_the_command_line():
    values = {"name": "a", "train": {"steps": 1, "rate": 0.5}}
    merged = override(values, ["train.steps=5", "name=b", "sizes=[3,4]"])
    assert merged == {"name": "b", "train": {"steps": 5, "rate": 0.5}, "sizes": [3, 4]}
    assert values["train"] == {"steps": 1, "rate": 0.5}


@pytest.mark.parametrize("item", ["steps", "=3", "a=[", "name=${oc.env:HOME}"])
def test_a_wrong_override(item):
    with pytest.raises(ConfigError):
        override({"name": "a"}, [item])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1", "line 1"),
        (b"a: 1\nb: :\n  - x: [", "column"),
        (b"- a\n- b", "found list"),
        (b"", "found NoneType"),
        (b"\xff\xfe\x00", "not readable as YAML"),
        (b"a: !!python/object/apply:os.system ['true']", "not readable as YAML"),
    ],
)
def test_a_broken_yaml_file(tmp_path, content, message):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    assert message in str(caught.value)
    assert "recipe.yaml" in str(caught.value)


def test_yaml_files(tmp_path):
    (tmp_path / "good.yaml").write_text("train: {steps: 3}\n")
    assert build(Outer, read_yaml(tmp_path / "good.yaml")).train.steps == 3
    with pytest.raises(ConfigError, match="no such file"):
        read_yaml(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="not readable"):
        read_yaml(tmp_path)
