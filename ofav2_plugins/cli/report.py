"""Command `ofav2 report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError
from .app import app, console


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(help="Run folders, or results.json files.")],
    out: Annotated[Path | None, typer.Option(help="Where to write; default: the first folder.")] = None,
) -> None:
    """Rebuild the report of a run, or merge several runs into one."""
    from ..report.page import write_report
    from ..study.results import load_results, merge_results

    target = out or (folders[0] if folders[0].is_dir() else folders[0].parent)
    if (target / "report.html").exists() and not (target / "results.json").exists():
        raise UserError(f"{target} holds a report.html of something else; choose another --out")
    written = write_report(merge_results([load_results(folder) for folder in folders]), target)
    console.print(f"report: {written}")
