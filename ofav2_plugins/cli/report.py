"""Command `ofav2 report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError
from ..utils.progress import say
from .app import app, console


@app.command(epilog="Example: ofav2 report runs/quick")
def report(
    folders: Annotated[list[Path], typer.Argument(help="Run folders, or results.json files.")],
    out: Annotated[Path | None, typer.Option(help="Where to write; default: the first folder.")] = None,
) -> None:
    """Rebuild the report of a run, or merge several runs into one."""
    from ..report.page import is_report, write_report
    from ..study.results import load_results, merge_results

    target = out or (folders[0] if folders[0].is_dir() else folders[0].parent)
    if (target / "report.html").exists() and not is_report(target / "report.html"):
        raise UserError(f"{target} contains a report.html that was not written by ofav2; choose another --out")
    results = [load_results(folder, _warn) for folder in folders]
    say(console, f"report: {write_report(merge_results(results), target)}")


def _warn(text: str) -> None:
    say(console, f"warning: {text}", "yellow")
