"""Command `ofav2 bench`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ..errors import UserError
from .app import app, console
from .deploy_options import BundleArgument


@app.command(epilog="Example: ofav2 bench bundle")
def bench(
    bundle: BundleArgument,
    formats: Annotated[str | None, typer.Option(help="Formats of the bundle: onnx,torch; default: all.")] = None,
    batch_sizes: Annotated[str, typer.Option(help="Batch sizes, separated by commas.")] = "1,64",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    warmup: Annotated[int, typer.Option(min=0, help="Batches before the timed ones.")] = 10,
    runs: Annotated[int, typer.Option(min=1, help="Batches that are timed.")] = 100,
    images: Annotated[Path | None, typer.Option(help="Image file or folder on which early exits are timed.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one object per row.")] = False,
) -> None:
    """Measure the latency of a bundle: percentiles, for each format and batch size."""
    from ..deploy.bench import BenchOptions, bench
    from ..deploy.bundle import open_bundle
    from ..deploy.predict import expand

    sizes = [size.strip() for size in batch_sizes.split(",")]
    if not all(size.isdigit() and int(size) > 0 for size in sizes):
        raise UserError(f"--batch-sizes must be numbers of at least 1 such as 1,64, but got {batch_sizes!r}")
    opened = open_bundle(bundle)
    chosen = [name.strip() for name in formats.split(",")] if formats is not None else opened.runnable_formats()
    options = BenchOptions(chosen, [int(size) for size in sizes], threads, warmup, runs)
    rows = list(bench(opened, options, expand([images]) if images else ()))
    if as_json:
        typer.echo(json.dumps([row.to_dict() for row in rows], indent=1))
        return
    table = Table(box=None)
    for name in ("format", "part", "batch", "mean ms", "50 %", "90 %", "99 %", "images/s"):
        table.add_column(name, no_wrap=True)
    for row in rows:
        times = row.latency
        values = (times.mean_ms, times.p50_ms, times.p90_ms, times.p99_ms)
        cells = (row.format, row.part, str(times.batch_size), *(f"{value:.2f}" for value in values))
        table.add_row(*cells, f"{times.images_per_second:.0f}")
    console.print(table)
