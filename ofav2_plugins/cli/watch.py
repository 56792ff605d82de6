"""Command `ofav2 watch`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
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
WORKING = ("training", "measuring")
SILENT_SECONDS = 300
"""An active run that has written no file for this long is listed below the table."""


@app.command(epilog="Example: ofav2 watch runs")
def watch(
    folder: Annotated[Path, typer.Argument(help="A run folder, or a folder that contains run folders.")],
    once: Annotated[bool, typer.Option("--once", help="Print the state once and exit.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the state once as JSON and exit.")] = False,
    every: Annotated[float, typer.Option(min=0.2, max=86400, help="Seconds between two updates.")] = 2.0,
) -> None:
    """Follow runs from their files: current step, accuracies so far, time left, failures. Ctrl-C ends the view only."""
    if as_json:
        typer.echo(json.dumps([run.to_dict() for run in _runs(folder)], indent=1))
        return
    if once:
        console.print(_view(folder, _runs(folder)))
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
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("run", overflow="fold")  # the only column that wraps on a narrow terminal
    for column in ("steps", "step", "epoch", "val", "test", "left", "state"):
        table.add_column(column, no_wrap=True)
    for run in runs:
        table.add_row(
            Text(_name(run)),
            f"{run.done}/{run.steps}",
            run.step or "",
            f"{run.epoch}/{run.epochs}" if run.step else "",
            _percent(run.val_top1),
            _percent(run.top1),
            "" if run.left_seconds is None or run.step is None else duration(run.left_seconds),
            Text(run.state, COLORS.get(run.state, "")),
        )
    return Group(table, *_notes(runs))


def _name(run: RunProgress) -> str:
    seed = "" if run.seed is None else f" ({run.seed})"
    return f"{run.folder.name}: {run.arm}{seed}"


def _notes(runs: list[RunProgress]) -> Iterator[Text]:
    """Lines below the table: failures, runs that no longer write files, a summary."""
    for run in runs:
        if run.problem:
            yield Text(f"{_name(run)}: {run.problem}", "red")
        elif run.state in WORKING and run.idle_seconds is not None and run.idle_seconds > SILENT_SECONDS:
            yield Text(
                f"{_name(run)}: no new file for {duration(run.idle_seconds)}; stopped, or in a long epoch", "yellow"
            )
    states = [run.state for run in runs]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    yield Text(f"{len(runs)} run{'s' if len(runs) > 1 else ''}: {counts}; accuracies are top-1", "dim")


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} %"
