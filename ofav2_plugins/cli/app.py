"""The application to which every command adds itself."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from .. import __version__

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="OFAv2 as plugins for once-for-all. Every command takes --debug, which shows the traceback of an error.",
)
data_app = typer.Typer(no_args_is_help=True, help="Datasets: download one.")
app.add_typer(data_app, name="data")
console = Console(markup=False, emoji=False, highlight=False)  # paths and names are text, whatever they contain


@app.callback(invoke_without_command=True)
def version_option(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """Options before the command."""
    if version:
        typer.echo(__version__)
        raise typer.Exit()
