"""The command ``stzoo``: errors become one message, never a traceback (unless ``--debug``)."""

from __future__ import annotations

import os
import sys

from stzoo.cli.commands import ANYWHERE
from stzoo.core.errors import StzooError

BAD_USE, INTERRUPTED = 2, 130


def main() -> None:
    """Run the command line and exit."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command.

    Parameters
    ----------
    arguments
        The command line without the program's name. ``--debug``, ``--locked``, ``--plugin FILE`` and
        ``--attention NAME`` may stand anywhere before a ``--``.

    Returns
    -------
    The exit code: 0, 1 for a failed run, 2 for bad use, 130 when interrupted.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    debug = "--debug" in arguments[:end]
    if "--locked" in arguments[:end]:
        os.environ["STZOO_LOCKED"] = "1"  # also for the processes that a command starts
    try:
        return _call(_without(arguments[:end]) + arguments[end:])
    except StzooError as error:
        if debug:
            raise
        _say(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        _say("stopped")
        return INTERRUPTED
    except BrokenPipeError:
        _silence()
        return 1
    except MemoryError:
        if debug:
            raise
        _say("error: out of memory\n  do:    use a smaller --batch-size, fewer genes, or larger bins")
        return 1
    except Exception as error:
        if debug:
            raise
        _say(
            f"error: this is a bug in stzoo or a plugin: {type(error).__name__}: {error}\n"
            "  do:    run again with --debug and report the traceback"
        )
        return 1


def _without(arguments: list[str]) -> list[str]:
    """Return the arguments without those of every command, which are told to this process."""
    kept: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if name == "--plugin":
            from stzoo.core.discovery.one_file import use_plugin_file

            use_plugin_file(value if equals else next(rest, ""))
        elif name == "--attention":
            _use_attention(value if equals else next(rest, ""))
        elif argument not in ANYWHERE:
            kept.append(argument)
    return kept


def _use_attention(backend: str) -> None:
    from stzoo.core.nn.backends import OFFERED, VARIABLE, check_backend

    os.environ[VARIABLE] = check_backend(backend, OFFERED, where="--attention")  # also for processes that are started


def _call(arguments: list[str]) -> int:
    """Let typer parse and run; its own exceptions (bad use, exit, abort) become exit codes."""
    import typer
    from stzoo.cli.app import application, bad_use

    try:
        result = application()(args=arguments, prog_name="stzoo", standalone_mode=False)
        sys.stdout.flush()  # here, where a closed pipe is still caught
    except typer.Exit as error:
        result = error.exit_code
    except typer.Abort:
        result = INTERRUPTED
    except typer.TyperException as error:
        _say(bad_use(error, arguments))
        return BAD_USE
    if result == INTERRUPTED:  # what typer makes of Ctrl-C
        raise KeyboardInterrupt
    return result if isinstance(result, int) else 0


def _silence() -> None:
    """Send what is left in the buffer of standard output nowhere, so that the flush at exit stays quiet."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":  # torchrun -m stzoo.cli.main ...
    main()
