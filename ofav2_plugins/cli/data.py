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
    to: Annotated[Path, typer.Option(help="The folder to unpack it into.")],
    url: Annotated[str | None, typer.Option(help="Download from this address instead of the official one.")] = None,
    sha256: Annotated[
        str | None, typer.Option(help="The SHA-256 digest of the file at --url, if it differs from the official one.")
    ] = None,
) -> None:
    """Download and unpack a dataset; an interrupted download is continued by the next call."""
    from dataclasses import replace

    from rich.progress import DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    from ..data.fetch import ARCHIVES
    from ..data.fetch import fetch as download

    if name not in ARCHIVES:
        raise UserError(f"what can be fetched is {', '.join(ARCHIVES)}, but got {name!r}")
    archive = ARCHIVES[name]
    archive = replace(archive, url=url or archive.url, sha256=(sha256 or archive.sha256).lower())
    with Progress(DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task(name, total=None)
        folder = download(archive, to, lambda done, total: bar.update(task, completed=done, total=total))
    console.print(f"{name} is in {folder}; train with --dataset {name} --root {folder}", soft_wrap=True)
