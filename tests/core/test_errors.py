from __future__ import annotations

import copy
import pickle

import pytest
from stzoo.core import errors
from stzoo.core.errors import ConfigError, StzooError, UsageError, nearest

KINDS = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, StzooError)]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_says_what_where_and_what_to_do(kind):
    error = kind("pixels are missing", where="slide.tif", todo="give --mpp")
    assert str(error) == "pixels are missing\n  where: slide.tif\n  do:    give --mpp"
    assert str(kind("alone")) == "alone"


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_keeps_its_parts_across_processes(kind):
    error = kind("what", where="where", todo="todo")
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is kind
        assert (twin.what, twin.where, twin.todo) == ("what", "where", "todo")


def test_bad_use_is_2_and_a_failed_run_is_1():
    assert {k.exit_code for k in KINDS} == {1, 2}
    assert issubclass(ConfigError, UsageError)
    assert UsageError("x").exit_code == 2
    assert errors.DataError("x").exit_code == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [("predct", "; did you mean 'predict'?"), ("xyzzy", ""), ("imput", "; did you mean 'impute'?")],
)
def test_nearest(name, expected):
    assert nearest(name, ["predict", "impute"]) == expected
