"""The command line as typer sees it: a group whose commands are imported on use, so that ``--help`` is instant."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer
from stzoo.cli.commands import ANYWHERE, COMMANDS
from stzoo.core.errors import UsageError, nearest
from typer.core import TyperGroup


class LazyGroup(TyperGroup):
    """The commands of :data:`stzoo.cli.commands.COMMANDS`."""

    def list_commands(self, ctx: Any) -> list[str]:
        """List the commands in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import a command's module and return the command."""
        return load_command(cmd_name) if cmd_name in COMMANDS else None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the table as it is: nothing is imported for ``--help``."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Name the nearest command when there is none of that name."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise UsageError(f"no command '{args[0]}'{nearest(args[0], COMMANDS)}", todo="see 'stzoo --help'")
        return super().resolve_command(ctx, args)


def load_command(name: str) -> Any:
    """Import ``stzoo.cli.NAME`` and return its command: the function ``command``, or the sub-commands of ``app``."""
    module = import_module(f"stzoo.cli.{name}")
    app: typer.Typer | None = getattr(module, "app", None)
    if app is None:
        app = new_app(COMMANDS[name])
        app.command(name)(module.command)
    several = app.registered_callback is not None or len(app.registered_commands) > 1
    loaded: Any = typer.main.get_group(app) if several else typer.main.get_command(app)
    loaded.name = name
    return loaded


def new_app(help: str) -> typer.Typer:
    """Return an empty typer application in the manner of this program: plain help, ``-h``, no completion options."""
    return typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        help=help,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def bad_use(error: typer.TyperException, arguments: list[str]) -> str:
    """Return the message for a wrong command line: what is wrong, the nearest right option, where to look."""
    context: Any = getattr(error, "ctx", None)
    message = error.format_message()
    if message.startswith("Usage:"):  # a group without a sub-command: the help is the message
        return message
    option = getattr(error, "option_name", None)
    if context is not None and option and type(error).__name__ == "NoSuchOption":
        options = [o for p in context.command.get_params(context) for o in p.opts if o.startswith("--")]
        message = f"no option '{option}'{nearest(option, [*options, *ANYWHERE])}"
    path = context.command_path if context is not None else " ".join(["stzoo", *arguments[:1]])
    return f"error: {message}\n  do:    see '{path} --help'"


_root = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Spatial transcriptomics models behind three small interfaces, with a model zoo.",
    epilog="Any command takes --debug (show the traceback of an error), --locked (use only weights of stzoo.lock), "
    "--plugin FILE (a method in one Python file) and --attention auto, sdpa, xformers or chunked (what attention runs "
    "on).",
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
    """Return the command line, ready to be called."""
    return typer.main.get_command(_root)
