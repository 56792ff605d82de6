"""Command `ofav2 predict`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError
from .app import app, console
from .deploy_options import BundleArgument, FormatOption
from .options import ThreadsOption


@app.command(epilog="Example: ofav2 predict bundle photo.jpg")
def predict(
    bundle: BundleArgument,
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of images.")],
    format: FormatOption = None,
    top: Annotated[int, typer.Option(min=1, help="Number of classes to print.")] = 5,
    batch_size: Annotated[int, typer.Option(min=1, help="Batch size.")] = 1,
    threads: ThreadsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one object per line.")] = False,
) -> None:
    """Classify images: the most probable classes, the exit that answered, the time in the network."""
    from ..deploy.bundle import open_bundle
    from ..deploy.predict import expand, predict

    opened = open_bundle(bundle)
    runner = opened.runner(format or opened.best_format(), threads)
    failed: list[UserError] = []
    for prediction in predict(runner, expand(images), batch_size, top):
        if isinstance(prediction, UserError):
            failed.append(prediction)
        elif as_json:
            typer.echo(json.dumps(prediction.to_dict()))
        else:
            console.print(
                f"{prediction.image} (exit {prediction.exit}, {prediction.milliseconds:.2f} ms)", soft_wrap=True
            )
            classes = ", ".join(f"{name} {100 * probability:.1f} %" for name, probability in prediction.classes)
            console.print(f"  {classes}", soft_wrap=True)
    if failed:
        more = f" (and {len(failed) - 1} more images)" if len(failed) > 1 else ""
        raise UserError(f"{failed[0]}{more}")
