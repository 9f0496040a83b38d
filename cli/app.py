"""The table of commands. A command's module is imported when it is called, so that ``--help`` is instant."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

_COMMANDS = {
    "demo": "Run the main job on a synthetic tissue (or, with --data, on real ones).",
    "predict": "Predict gene expression of a section from its H&E image.",
    "impute": "Fill the spots of a section that were not measured.",
    "evaluate": "Run an evaluation protocol and print its table, baselines included.",
    "train": "Train a model from a recipe; can be stopped and resumed.",
    "data": "Inspect and convert sections.",
    "plugins": "List the installed plugins.",
    "zoo": "List, describe and verify weights.",
}


class LazyGroup(TyperGroup):
    """A group whose commands live in modules of their own, imported on use."""

    def list_commands(self, ctx: Any) -> list[str]:
        """List the commands in the order of the table."""
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import a command's module and return the command."""
        if cmd_name not in _COMMANDS:
            return None
        command: Any = typer.main.get_command(import_module(f"stzoo.cli.{cmd_name}").app)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the table as it is: nothing is imported for ``--help``."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Name the nearest command when there is none of that name."""
        from stzoo.core.errors import UsageError, nearest

        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            raise UsageError(f"no command '{args[0]}'{nearest(args[0], _COMMANDS)}", todo="see 'stzoo --help'")
        return super().resolve_command(ctx, args)


_root = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Spatial transcriptomics models behind three small interfaces, with a model zoo.",
    epilog="Any command takes --debug, which shows the traceback of an error.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(version("stzoo"))
        raise typer.Exit


@_root.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def application() -> Any:
    """Return the command line."""
    return typer.main.get_command(_root)
