"""The command ``stzoo``: errors become one message, never a traceback (unless ``--debug``)."""

from __future__ import annotations

import os
import sys

from stzoo.core.errors import StzooError


def main() -> None:
    """Run the command line and exit."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    sys.exit(run([a for a in arguments if a != "--debug"], debug=debug))


def run(arguments: list[str], *, debug: bool = False) -> int:
    """Run one command and return its exit code: 0, 1 for a failed run, 2 for bad use, 130 when interrupted."""
    import typer
    from stzoo.cli.app import application

    try:
        result = application()(args=arguments, prog_name="stzoo", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except StzooError as error:
        if debug:
            raise
        _say(f"error: {error}")
        return error.exit_code
    except typer.Exit as error:
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        _say("stopped")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the flush at exit stays quiet
        return 1
    except MemoryError:
        _say("error: out of memory\n  do:    use a smaller --batch-size, fewer genes, or larger bins")
        return 1
    except Exception as error:
        if hasattr(error, "format_message"):  # bad use, said by the parser (typer names no public base class)
            _say(f"error: {error.format_message()}\n  do:    see 'stzoo {' '.join(arguments[:1])} --help'")
            return 2
        if debug:
            raise
        _say(
            f"error: this is a bug in stzoo or a plugin: {type(error).__name__}: {error}\n"
            "  do:    run again with --debug and report the traceback"
        )
        return 1


def _say(text: str) -> None:
    print(text, file=sys.stderr)
