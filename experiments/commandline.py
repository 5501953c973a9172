"""What the commands of `vfl` share: how they look, and the options that several of them take."""

from __future__ import annotations

from typing import Annotated, Any

import click
import typer
import typer.core

Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Put a value over the file's; may be repeated.")
]
Json = Annotated[bool, typer.Option("--json", help="Write one strict JSON object to stdout and nothing else.")]

SETTINGS: dict[str, Any] = {
    "rich_markup_mode": None,
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "suggest_commands": False,
}
"""How every group of commands is made: plain help, and errors that are ours to print."""


class PlainCommand(typer.core.TyperCommand):
    """A command whose help is plain text: Typer escapes its brackets for rich even where rich does not print it."""

    def get_help(self, ctx: click.Context) -> str:
        """Return the help as it is printed."""
        return super().get_help(ctx).replace("\\[", "[")


def examples(*lines: str) -> str:
    """Return an epilog that shows how a command is called."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
