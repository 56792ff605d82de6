"""Command `ofav2 doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from .app import app, console
from .options import DeviceOption, RootOption


@app.command()
def doctor(
    dataset: Annotated[str | None, typer.Option(help="Also look at this dataset.")] = None,
    root: RootOption = None,
    run: Annotated[Path | None, typer.Option(help="Also look at this run's folder.")] = None,
    device: DeviceOption = "auto",
) -> None:
    """Check the environment, upstream's repairs, plugins, a dataset, a run folder; say what to mend."""
    from ..doctor import examine
    from ..utils.distributed import make_fabric

    problems = 0
    for finding in examine(dataset, root, run, make_fabric(device)):
        mark = Text("ok   ", "green") if finding.problem is None else Text("wrong", "red")
        words = (finding.what, finding.found, finding.problem or "")
        console.print(mark, Text(": ".join(word for word in words if word)), soft_wrap=True)
        problems += finding.problem is not None
    if problems:
        console.print(f"{problems} to mend")
        raise typer.Exit(1)
