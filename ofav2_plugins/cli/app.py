"""The application with which every command registers."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from .. import __version__

WORKFLOW = """\
A normal workflow:

  ofav2 train --supernet EE_D --teacher progressive --out runs/ee_d   train a supernet (minutes with the defaults)
  ofav2 ablate quick --out runs/quick --resume                        compare OFA and OFAv2 in a study
  ofav2 watch runs                                                    follow running trainings
  ofav2 search runs/ee_d --out runs/search --max-macs 4e6             find the best subnets under a limit
  ofav2 export runs/ee_d --arch FILE.json --out bundle                write verified files for deployment

`ofav2 --help` lists all commands, `ofav2 COMMAND --help` explains one."""

app = typer.Typer(
    pretty_exceptions_enable=False,
    help="OFAv2 as plugins for once-for-all. Every command takes --debug, which shows the traceback of an error.",
)
data_app = typer.Typer(no_args_is_help=True, help="Download a dataset.")
app.add_typer(data_app, name="data")
console = Console(markup=False, emoji=False, highlight=False)  # paths and names are printed literally


@app.callback(invoke_without_command=True)
def version_option(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Options before the command."""
    if version:
        typer.echo(__version__)
        raise typer.Exit()
    if context.invoked_subcommand is None:
        typer.echo(WORKFLOW)
