"""Command `ofav2 plugins`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from .app import app, console

if TYPE_CHECKING:
    from ..evaluation.description import Description
    from ..registry import PluginInfo
    from ..space import ElasticDim


@app.command(epilog="Example: ofav2 plugins --describe ghost --width 0.5")
def plugins(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    describe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Describe one plugin: documentation, settings, elastic dimensions, parameters and MACs.",
        ),
    ] = None,
    width: Annotated[float, typer.Option(help="With --describe: the width multiplier.")] = 1.0,
    resolution: Annotated[int, typer.Option(help="With --describe: the images' height and width in pixels.")] = 224,
) -> None:
    """List every plugin: namespace, name, settings, distribution, version, summary, and whether it loads."""
    if describe is not None:
        _describe(describe, width, resolution, as_json)
        return
    from ..registry import describe as describe_all

    rows = describe_all()
    if as_json:
        typer.echo(json.dumps([vars(row) for row in rows], indent=1))
    else:
        _print_table(rows)
    if any(row.problem for row in rows):
        raise typer.Exit(1)


def _print_table(rows: list[PluginInfo]) -> None:
    table = Table(box=None)
    for column in ("namespace", "name", "settings", "distribution", "version", "summary", "loads"):
        table.add_column(column, overflow="fold")
    for row in rows:
        status = Text("yes", "green") if row.problem is None else Text(f"no: {row.problem}", "red")
        settings = ", ".join(f"{name}: {text}" for name, text in row.settings.items())
        cells = (row.namespace, row.name, settings, row.distribution, row.version, row.summary)
        table.add_row(*map(Text, cells), status)
    console.print(table)


def _describe(name: str, width: float, resolution: int, as_json: bool) -> None:
    from ..evaluation.description import describe_plugin

    found = describe_plugin(name, width, resolution)
    if as_json:
        typer.echo(json.dumps([description.to_dict() for description in found], indent=1))
        return
    for i, description in enumerate(found):
        typer.echo("\n" * (i > 0) + "\n".join(_lines(description)))


def _lines(description: Description) -> list[str]:
    """A description as readable lines."""
    plugin = description.plugin
    lines = [f"{plugin.name} ({plugin.namespace}; {plugin.distribution} {plugin.version}, {plugin.target})", ""]
    lines += [*description.documentation.splitlines(), ""]
    if not plugin.settings:
        lines.append("settings: none")
    else:
        lines += ["settings:", *(f"  {name}: {text}" for name, text in plugin.settings.items())]
    cost = description.cost
    if cost is None:
        return lines
    lines.append("elastic dimensions:" if description.dimensions else "elastic dimensions: none")
    lines += [f"  {_dimension(dim)}" for dim in description.dimensions]
    added = f" (adds {cost.added_params:,})", f" (adds {cost.added_macs:,})"
    lines += [
        f"maximal network with all exits, backbone {cost.backbone}, width multiplier {cost.width_mult:g}, "
        f"{cost.n_classes} classes, {cost.resolution} px:",
        f"  parameters: {cost.params:,}{added[0] * (plugin.name != cost.backbone)}",
        f"  MACs: {cost.macs:,}{added[1] * (plugin.name != cost.backbone)}",
    ]
    return lines


def _dimension(dim: ElasticDim) -> str:
    def listed(choices: Sequence[Any]) -> str:
        return ", ".join("+".join(choice) if isinstance(choice, list) else str(choice) for choice in choices)

    entries = f"{dim.length} entries, each" if dim.length else "one entry,"
    own = "".join(f"; entry {index} one of {listed(values)}" for index, values in dim.own_values.items())
    return f"{dim.name}: {entries} one of {listed(dim.choices())}{own}"
