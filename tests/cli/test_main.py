"""The frame of the command line: lazy commands, exit codes, messages."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from types import ModuleType
from typing import Annotated

import pytest
import typer
from stzoo.cli.commands import COMMANDS
from stzoo.core.errors import DataError, StzooError, UsageError


@pytest.fixture
def predict(monkeypatch):
    """A stand-in for the module of ``stzoo predict``; ``behave`` is what the command does."""
    module = ModuleType("stzoo.cli.predict")
    module.behave = lambda: None

    def command(
        section: Annotated[str, typer.Argument()],
        genes: Annotated[str, typer.Option()] = "all",
        top: Annotated[int, typer.Option(min=1)] = 3,
    ) -> None:
        """Predict expression."""
        typer.echo(f"{section} {genes} {top}")
        module.behave()

    module.command = command
    monkeypatch.setitem(sys.modules, "stzoo.cli.predict", module)
    return module


def test_a_command_is_a_function_in_a_module_of_its_name(stzoo, predict):
    done = stzoo("predict", "path::C5", "--genes", "ERBB2")
    assert (done.code, done.out, done.err) == (0, "path::C5 ERBB2 3\n", "")


def test_help_lists_every_command_without_importing_one(stzoo, monkeypatch):
    monkeypatch.setattr("stzoo.cli.app.import_module", lambda name: pytest.fail(f"{name} was imported"))
    for arguments in (["--help"], ["-h"], []):
        shown = stzoo(*arguments)
        text = " ".join((shown.out + shown.err).split())
        assert shown.code == (0 if arguments else 2)
        assert not text.startswith("error")
        for name, line in COMMANDS.items():
            assert f"{name} {line}" in text


def test_help_of_a_command(stzoo, predict):
    shown = stzoo("predict", "--help")
    assert shown.code == 0
    assert "Predict expression." in shown.out
    assert "--genes" in shown.out
    assert "completion" not in shown.out


def test_version(stzoo):
    assert stzoo("--version").out == version("stzoo") + "\n"


@pytest.mark.parametrize(
    ("arguments", "message", "look"),
    [
        (["predct", "x"], "no command 'predct'; did you mean 'predict'?", "stzoo --help"),
        (["xyzzy"], "no command 'xyzzy'", "stzoo --help"),
        (["predict"], "Missing argument", "stzoo predict --help"),
        (["predict", "x", "y"], "unexpected extra argument", "stzoo predict --help"),
        (["predict", "x", "--gens", "A"], "no option '--gens'; did you mean '--genes'?", "stzoo predict --help"),
        (["predict", "x", "--debgu"], "no option '--debgu'; did you mean '--debug'?", "stzoo predict --help"),
        (["predict", "x", "--xyzzy"], "no option '--xyzzy'", "stzoo predict --help"),
        (["predict", "x", "--genes"], "'--genes' requires an argument", "stzoo predict --help"),
        (["predict", "x", "--top", "many"], "--top", "stzoo predict --help"),
        (["predict", "x", "--top", "0"], "--top", "stzoo predict --help"),
        (["--bogus"], "no option '--bogus'", "stzoo --help"),
        (["plugins", "lst"], "Did you mean 'list'?", "stzoo plugins --help"),
    ],
)
def test_bad_use_names_what_is_nearest_and_where_to_look(stzoo, predict, arguments, message, look):
    bad = stzoo(*arguments)
    assert bad.code == 2
    assert bad.out == ""
    assert bad.err.startswith("error: ")
    assert message.lower() in bad.err.lower()
    assert f"see '{look}'" in bad.err
    assert "Traceback" not in bad.err


def fail(error):
    def behave():
        raise error

    return behave


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (DataError("counts are negative", where="a.h5ad", todo="give raw counts"), 1, "error: counts are negative"),
        (UsageError("no such head"), 2, "error: no such head"),
        (MemoryError(), 1, "out of memory"),
        (ZeroDivisionError("by zero"), 1, "this is a bug in stzoo or a plugin: ZeroDivisionError: by zero"),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
)
def test_an_error_is_a_message_and_an_exit_code(stzoo, predict, error, code, message):
    predict.behave = fail(error)
    bad = stzoo("predict", "x")
    assert bad.code == code
    assert message in bad.err
    assert "Traceback" not in bad.err
    assert bad.out == "x all 3\n"


@pytest.mark.parametrize(
    "arguments", [["--debug", "predict", "x"], ["predict", "--debug", "x"], ["predict", "x", "--debug"]]
)
def test_debug_shows_the_traceback(stzoo, predict, arguments):
    predict.behave = fail(DataError("counts are negative"))
    with pytest.raises(StzooError, match="counts are negative"):
        stzoo(*arguments)


def test_debug_after_a_double_dash_is_an_argument(stzoo, predict):
    assert stzoo("predict", "--", "--debug").out == "--debug all 3\n"


def program_with(code: str) -> list[str]:
    """Run the real entry point in a new process, with a ``predict`` command made of ``code``."""
    lines = [
        "import sys, types, time, typer",
        "from stzoo.cli.main import main",
        "module = types.ModuleType('stzoo.cli.predict')",
        f"def command():\n    {code}",
        "module.command = command",
        "sys.modules['stzoo.cli.predict'] = module",
        "sys.argv = ['stzoo', 'predict']",
        "main()",
    ]
    return [sys.executable, "-c", "\n".join(lines)]


def test_ctrl_c_says_one_line_and_exits_with_130():
    code = "print('ready', flush=True); time.sleep(60)"
    with subprocess.Popen(program_with(code), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err.strip()) == (130, "stopped")


@pytest.mark.parametrize("code", ["[typer.echo('x' * 999) for _ in range(999)]", "print('buffered')"])
def test_a_closed_pipe_is_quiet(code):
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            program_with(code), stdout=write, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    finally:
        os.close(write)
    assert done.stderr == ""
    assert done.returncode == 1
