"""Command `ofav2 watch`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..utils.progress import duration
from .app import app, console

if TYPE_CHECKING:
    from ..execution.progress import RunProgress

COLORS = {"finished": "green", "failed": "red", "damaged": "red", "training": "cyan", "measuring": "cyan"}


@app.command(epilog="Example: ofav2 watch runs")
def watch(
    folder: Annotated[Path, typer.Argument(help="A run folder, or a folder that contains run folders.")],
    once: Annotated[bool, typer.Option("--once", help="Print the state once and exit.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the state once as JSON and exit.")] = False,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two updates.")] = 2.0,
) -> None:
    """Follow runs from their files: current step, accuracies so far, time left, failures. Ctrl-C ends the view only."""
    if as_json:
        typer.echo(json.dumps([run.to_dict() for run in _runs(folder)], indent=1))
        return
    if once:
        console.print(_view(folder, _runs(folder)), soft_wrap=True)
        return
    with Live(console=console, auto_refresh=False) as live:
        while True:
            runs = _runs(folder)
            live.update(_view(folder, runs), refresh=True)
            if runs and all(run.state == "finished" for run in runs):
                return
            time.sleep(every)


def _runs(folder: Path) -> list[RunProgress]:
    from ..execution.progress import progress_of, run_folders

    return [run for found in run_folders(folder) for run in progress_of(found)]


def _view(folder: Path, runs: list[RunProgress]) -> Group | Text:
    if not runs:
        return Text(f"{folder} contains no run yet")
    table = Table("run", "steps", "step", "epoch", "val top-1", "test top-1", "time left", "state", box=None)
    for run in runs:
        name = f"{run.folder.name}: {run.arm}" + (f", seed {run.seed}" if run.seed is not None else "")
        idle = f", last file {duration(run.idle_seconds)} ago" if run.idle_seconds is not None else ""
        table.add_row(
            Text(name),
            f"{run.done}/{run.steps}",
            run.step or "",
            f"{run.epoch}/{run.epochs or '?'}" if run.step else "",
            _percent(run.val_top1),
            _percent(run.top1),
            "" if run.left_seconds is None or run.step is None else f"about {duration(run.left_seconds)}",
            Text(run.state + idle, COLORS.get(run.state, "")),
        )
    return Group(table, *(Text(f"{run.folder}: {run.arm}: {run.problem}", "red") for run in runs if run.problem))


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} %"
