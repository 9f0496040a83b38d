"""Checks of any model: its record, config, weights, and that one question has one answer."""

from __future__ import annotations

import pickle
import random
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from stzoo.core import config as configs
from stzoo.core.conformance.answers import EXACT, ROUNDING, answer, check_same
from stzoo.core.conformance.cases import CheckContext
from stzoo.core.conformance.checks import MODELS, ConformanceError, check
from stzoo.core.conformance.worker import in_process
from stzoo.core.discovery.manager import resolve
from stzoo.core.errors import ConfigError, StzooError
from stzoo.core.registry import CONTRACTS


@check(*MODELS)
def record_leads_to_the_class(case: CheckContext) -> None:
    """The record names a subclass of its role's interface, which has the record's name and config."""
    contract, record = CONTRACTS[case.record.role], case.record
    found, schema = resolve(record.target), resolve(record.config)
    if not (isinstance(found, type) and issubclass(found, contract)):
        raise ConformanceError(f"'{record.target}' is no {contract.__name__}", f"subclass stzoo.{contract.__name__}")
    if getattr(found, "name", None) != record.name:
        raise ConformanceError(
            f"the class has the name {getattr(found, 'name', None)!r}", f"set name = '{record.name}'"
        )
    if getattr(found, "config_class", None) is not schema:
        raise ConformanceError(
            f"config_class of the class is not '{record.config}'", "name one dataclass in both places"
        )


@check(*MODELS)
def config_round_trip(case: CheckContext) -> None:
    """Options are a dataclass with defaults, and survive being written and read: a config.json rebuilds the model."""
    schema = resolve(case.record.config)
    if not (isinstance(schema, type) and is_dataclass(schema)):
        raise ConformanceError(f"'{case.record.config}' is no dataclass", "decorate it with @dataclass")
    for values in ({}, dict(case.given.config or {})):
        plain = configs.dump(configs.build(schema, values))
        if configs.dump(configs.build(schema, plain)) != plain:
            raise ConformanceError(
                "options that are written and read again are others", "let __post_init__ check, not change"
            )


@check(*MODELS)
def unknown_option_is_refused(case: CheckContext) -> None:
    """An option that does not exist is an error that names it: a misspelt one must not be ignored."""
    try:
        case.cls({"no_such_option": 1})
    except ConfigError as error:
        if "no_such_option" not in str(error):
            raise ConformanceError(
                f"the error does not name the option: {error}", "let the base class read the config"
            ) from None
        return
    raise ConformanceError("the model takes an option 'no_such_option'", "let Model.__init__ read the config")


@check(*MODELS)
def answers(case: CheckContext) -> None:
    """The model can be made and asked, and answers with finite numbers."""
    case.ready()
    for key, values in case.expected.items():
        if not np.isfinite(values).all():
            raise ConformanceError(
                f"{key} has {int((~np.isfinite(values)).sum())} values that are not finite", "find the gaps"
            )


@check(*MODELS)
def same_seed_same_answer(case: CheckContext) -> None:
    """Two models of one config and seed say the same, bit for bit, whatever the global random state is."""
    expected = case.expected
    with _global_seed(1):
        found = answer(case.fresh(), case.sections)
    todo = "draw from np.random.default_rng(self.seed) or a torch.Generator, never from global state"
    check_same(found, expected, EXACT, "the same model, made and asked again", todo)


@contextmanager
def _global_seed(seed: int) -> Iterator[None]:
    """Seed the global generators, and give them back as they were."""
    import torch

    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        yield
    random.setstate(python)
    np.random.set_state(numpy)


@check(*MODELS)
def asked_twice_same_answer(case: CheckContext) -> None:
    """A question does not change the model: the second answer is the first, and others asked between do no harm."""
    model = case.fresh()
    with suppress(StzooError):  # that there is nothing to do is said elsewhere
        answer(model, case.others)
    what = "asked after a question about another tissue of the same name"
    todo = "keep nothing of a section between calls, or key it by all that it depends on"
    check_same(answer(model, case.sections), case.expected, EXACT, what, todo)


@check(*MODELS)
def global_random_state_is_left_alone(case: CheckContext) -> None:
    """Asking moves no global generator: a plugin that seeds one makes the user's own random numbers repeat."""
    import torch

    case.expected  # noqa: B018 - the first call may import and load

    def states() -> tuple[object, ...]:
        return random.getstate(), pickle.dumps(np.random.get_state()), torch.get_rng_state().numpy().tobytes()

    with _global_seed(2):  # no state that the plugin would set itself
        before_all = states()
        answer(case.model, case.sections)
        after_all = states()
    for name, before, after in zip(("random", "numpy", "torch"), before_all, after_all, strict=True):
        if before != after:
            raise ConformanceError(
                f"the global generator of {name} has moved", "use default_rng(seed), torch.random.fork_rng()"
            )


@check(*MODELS)
def saved_and_loaded_bit_equal(case: CheckContext) -> None:
    """What is saved and loaded has the same tensors and description, and answers the same, bit for bit."""
    model = case.model
    with tempfile.TemporaryDirectory() as scratch:
        loaded = type(model).load(model.save(Path(scratch) / "saved", card="# Saved by the conformance kit\n"))
    _check_tensors(loaded.state(), model.state())
    for what in ("description", "assets"):
        if getattr(loaded, what)() != getattr(model, what)():
            raise ConformanceError(f"{what}() of the loaded model is another", f"take it over in restore(): {what}")
    if configs.dump(loaded.config) != configs.dump(model.config):
        raise ConformanceError("the config of the loaded model is another", "keep all options in the config")
    todo = "return every tensor in state() and everything else in description(), and take both over in restore()"
    check_same(answer(loaded, case.sections), case.expected, EXACT, "the loaded model", todo)


def _check_tensors(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    import torch

    lost, new = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    if lost or new:
        raise ConformanceError(f"tensors differ: lost {lost[:3]}, new {new[:3]}", "make state() and restore() agree")
    for key, tensor in wanted.items():
        if found[key].dtype != tensor.dtype or not torch.equal(found[key].cpu(), tensor.cpu()):
            raise ConformanceError(f"tensor '{key}' is another after loading", "make state() and restore() agree")


@check(*MODELS)
def damaged_weights_are_refused(case: CheckContext) -> None:
    """A tensor missing or left over is an error: nothing is ever left random."""
    import torch

    state, description, assets = (getattr(case.model, part)() for part in ("state", "description", "assets"))
    short = dict(sorted(state.items())[1:])
    for what, given in (("missing", short), ("left over", {**state, "no.such.tensor": torch.zeros(1)})):
        if what == "missing" and not state:
            continue
        try:
            case.cls(case.model.config).restore(given, description, assets)
        except StzooError:
            continue
        except (KeyError, RuntimeError, ValueError) as error:
            raise ConformanceError(
                f"a tensor {what} raises {type(error).__name__}", "use stzoo.core.weights.repository.restore_module"
            ) from error
        raise ConformanceError(
            f"a tensor {what} goes unnoticed", "use stzoo.core.weights.repository.restore_module, which is strict"
        )


@check(*MODELS)
def same_in_another_process(case: CheckContext) -> None:
    """The model can be pickled, and answers the same in a worker process (where strings hash otherwise)."""
    try:
        model = pickle.dumps(case.fresh())
    except Exception as error:
        raise ConformanceError(
            f"the model can not be pickled: {type(error).__name__}: {error}",
            "keep no lambda, open file, lock or local class on it",
        ) from error
    try:
        found = in_process("ask", model, pickle.dumps(case.sections))
    except RuntimeError as error:
        raise ConformanceError(
            f"in another process the model fails: {error}", "name classes at the top of a module"
        ) from error
    todo = "depend on no order of a set, no id, no state of the process"
    check_same(found, case.expected, ROUNDING, "in another process", todo)


@check(*MODELS)
def moves_between_devices(case: CheckContext) -> None:
    """``to`` returns the model itself, which answers the same; on a GPU as well, to rounding, where there is one."""
    import torch

    model = case.fresh()
    for device in ("cpu", *(["cuda"] if torch.cuda.is_available() else [])):
        if model.to(device) is not model or model.device != device:
            raise ConformanceError(
                f"to('{device}') does not return the model on that device", "end it with super().to(device)"
            )
        tolerance = ROUNDING if device == "cpu" else 0.05
        todo = "make tensors on self.device"
        check_same(answer(model, case.sections), case.expected, tolerance, f"on the device {device}", todo)


@check(*MODELS)
def options_are_documented(case: CheckContext) -> None:
    """Every option stands in the docstring of its dataclass: nobody can set what nobody explains."""
    schema = resolve(case.record.config)
    if not fields(schema):
        return
    told = " ".join(parent.__doc__ or "" for parent in schema.__mro__)
    silent = [one.name for one in fields(schema) if one.name not in told]
    if silent:
        raise ConformanceError(
            f"the docstring of {schema.__name__} says nothing of '{silent[0]}'", "add it under Parameters"
        )
