"""Command `ofav2 profile`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import app, console
from .options import ThreadsOption
from .search import ArmOption, RunArgument, RunSeedOption, StepOption


@app.command(epilog="Example: ofav2 profile runs/ee_d --out table.json --threads 1")
def profile(
    run: RunArgument,
    out: Annotated[Path, typer.Option(help="The file to write the latency table to.")],
    backend: Annotated[str, typer.Option(help="torch or onnxruntime.")] = "torch",
    threads: ThreadsOption = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    arm: ArmOption = None,
    run_seed: RunSeedOption = None,
    step: StepOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the networks on which the table is validated.")] = 0,
) -> None:
    """Measure a latency table of this machine for the subnets of a training."""
    from ..search.profiling import ProfileCall, run_profile

    run_profile(ProfileCall(run, out, backend, threads, device, arm, run_seed, step, seed), console)
