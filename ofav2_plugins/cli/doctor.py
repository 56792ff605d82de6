"""Command `ofav2 doctor`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from .app import app, console
from .options import DeviceOption, RootOption


@app.command(epilog="Example: ofav2 doctor --dataset tiny-imagenet --root data/tiny-imagenet-200")
def doctor(
    dataset: Annotated[str | None, typer.Option(help="Also check this dataset.")] = None,
    root: RootOption = None,
    run: Annotated[Path | None, typer.Option(help="Also check this run's folder.")] = None,
    device: DeviceOption = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one object per check.")] = False,
) -> None:
    """Check the environment, upstream patches, plugins, a dataset or a run folder; problems come with a remedy."""
    from ..doctor import examine
    from ..utils.distributed import make_fabric

    problems = 0
    found = examine(dataset, root, run, make_fabric(device))
    if as_json:
        findings = list(found)
        typer.echo(json.dumps([vars(finding) for finding in findings], indent=1))
        raise typer.Exit(int(any(finding.problem is not None for finding in findings)))
    for finding in found:
        mark = Text("ok   ", "green") if finding.problem is None else Text("wrong", "red")
        words = (finding.what, finding.found, finding.problem or "")
        console.print(mark, Text(": ".join(word for word in words if word)), soft_wrap=True)
        problems += finding.problem is not None
    if problems:
        console.print(f"{problems} problem{'s' if problems > 1 else ''} found")
        raise typer.Exit(1)
