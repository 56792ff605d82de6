"""Command `ofav2 plugins`."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from .app import app, console


@app.command(epilog="Example: ofav2 plugins")
def plugins(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List every plugin: namespace, name, settings, distribution, version, summary, and whether it loads."""
    from ..registry import describe

    rows = describe()
    if as_json:
        typer.echo(json.dumps([vars(row) for row in rows], indent=1))
    else:
        table = Table(box=None)
        for column in ("namespace", "name", "settings", "distribution", "version", "summary", "loads"):
            table.add_column(column, overflow="fold")
        for row in rows:
            status = Text("yes", "green") if row.problem is None else Text(f"no: {row.problem}", "red")
            settings = ", ".join(f"{name}: {text}" for name, text in row.settings.items())
            cells = (row.namespace, row.name, settings, row.distribution, row.version, row.summary)
            table.add_row(*map(Text, cells), status)
        console.print(table)
    if any(row.problem for row in rows):
        raise typer.Exit(1)
