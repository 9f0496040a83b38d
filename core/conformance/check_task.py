"""Checks of kinds of protocols: keys, columns, and what is refused before anything is computed."""

from __future__ import annotations

import tempfile
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from stzoo.core import config as configs
from stzoo.core.conformance.cases import CheckContext
from stzoo.core.conformance.checks import ConformanceError, check, refusal
from stzoo.core.discovery.manager import resolve
from stzoo.core.evaluation.models import Models
from stzoo.core.evaluation.protocol import Protocol, Row
from stzoo.core.evaluation.task import Column, Task


@check("task")
def task_has_its_parts(case: CheckContext) -> None:
    """The record leads to a stzoo.Task whose schema is a dataclass, with columns and a name for its parts."""
    found: Any = resolve(case.record.target)
    if not (isinstance(found, type) and issubclass(found, Task)):
        raise ConformanceError(f"'{case.record.target}' is no stzoo.Task", "subclass stzoo.Task")
    schema = getattr(found, "schema", None)
    if not (isinstance(schema, type) and is_dataclass(schema) and issubclass(schema, Protocol)):
        raise ConformanceError(f"its schema is {schema!r}", "name a dataclass that extends stzoo.Protocol")
    columns = getattr(found, "columns", ())
    if not columns or not all(isinstance(column, Column) for column in columns):
        raise ConformanceError(f"its columns are {columns!r}", "list stzoo.Column(name, head, digits)")
    if not isinstance(getattr(found, "part", None), str):
        raise ConformanceError("it does not say what a line is about", "set part, e.g. 'genes'")


@check("task")
def task_refuses_unknown_keys(case: CheckContext) -> None:
    """A key of the protocol file that the schema does not have is refused by its name."""
    schema = resolve(case.record.target).schema
    error = refusal(lambda: configs.build(schema, {"no_such_key": 1}, where="protocol"), "an unknown key")
    if error is None or "no_such_key" not in str(error):
        raise ConformanceError(f"the unknown key goes unnoticed, or is not named: {error}", "let stzoo read the file")


@check("task")
def task_refuses_what_is_not_there(case: CheckContext) -> None:
    """Without its data, and with a control that it does not know, it is refused with a clear error, never a crash."""
    task = resolve(case.record.target)
    with tempfile.TemporaryDirectory() as scratch:
        models = Models(lambda name: None, Path(scratch))
        names = {f.name for f in fields(task.schema)}
        lists = {f.name: ["absent::section"] for f in fields(task.schema) if str(f.type) == "list[str]"}
        given = {key: value for key, value in lists.items() if key in names}
        rows = [Row(name="x", control="no-such-control")]
        protocol = task.schema(name="p", kind=case.record.name, rows=rows, **given)
        if refusal(lambda: task(protocol, Path(scratch), models), "no data and an unknown control") is None:
            raise ConformanceError("it starts without data", "read the sections in __init__, after super().__init__()")
