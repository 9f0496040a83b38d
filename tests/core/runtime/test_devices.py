"""A device that does not exist is refused before anything is loaded."""

from __future__ import annotations

import pytest
from stzoo.core.errors import UsageError
from stzoo.core.runtime.devices import check_device


def test_devices_that_take_tensors_are_returned_by_name():
    assert check_device("cpu") == "cpu"


@pytest.mark.parametrize("name", ["gpu", "", "cuda:99", "cpu:x"])
def test_devices_that_are_not_here_are_named(name):
    with pytest.raises(UsageError, match=f"device '{name}' is not usable"):
        check_device(name)
