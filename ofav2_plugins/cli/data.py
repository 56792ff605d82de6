"""Command `ofav2 data`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError
from .app import console, data_app


@data_app.command(epilog="Example: ofav2 data fetch tiny-imagenet --to data")
def fetch(
    name: Annotated[str, typer.Argument(help="tiny-imagenet.")],
    to: Annotated[Path, typer.Option(help="The folder to unpack the dataset into.")],
    url: Annotated[str | None, typer.Option(help="Another address of the archive.")] = None,
    sha256: Annotated[str | None, typer.Option(help="SHA-256 of the archive, if it is not the official one.")] = None,
) -> None:
    """Download and unpack a dataset; if it is interrupted, the next call continues."""
    from dataclasses import replace

    from rich.progress import DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    from ..data.fetch import ARCHIVES
    from ..data.fetch import fetch as download

    if name not in ARCHIVES:
        raise UserError(f"the dataset to fetch must be one of {', '.join(ARCHIVES)}, but got {name!r}")
    archive = ARCHIVES[name]
    archive = replace(archive, url=url or archive.url, sha256=(sha256 or archive.sha256).lower())
    with Progress(DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task(name, total=None)
        folder = download(archive, to, lambda done, total: bar.update(task, completed=done, total=total))
    message = f"{name} is in {folder}; train with --dataset {name} --root {folder}"
    console.print(message, soft_wrap=True, markup=False)
