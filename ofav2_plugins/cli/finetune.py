"""Command `ofav2 finetune`."""

from __future__ import annotations

from typing import Annotated

import typer

from .app import app, console
from .deploy_options import (
    ArchOption,
    ArmOption,
    EntryOption,
    ResolutionOption,
    RunArgument,
    RunSeedOption,
    StepOption,
)
from .options import (
    AcceptChangesOption,
    DeviceOption,
    OutOption,
    ResumeOption,
    RootOption,
    SaveEveryOption,
    ThreadsOption,
    stopped,
)


@app.command(epilog="Example: ofav2 finetune runs/ee_d --arch arch.json --out runs/tuned")
def finetune(
    run: RunArgument,
    out: OutOption,
    arch: ArchOption,
    all_exits: Annotated[
        bool, typer.Option("--all-exits", help="Train all exits up to the architecture's, equally weighted.")
    ] = False,
    from_scratch: Annotated[
        bool,
        typer.Option(
            "--from-scratch",
            help="Train the same subnet from fresh weights with the settings of the full phase, for comparison.",
        ),
    ] = False,
    distill: Annotated[bool, typer.Option("--distill", help="Also distill from the maximal network.")] = False,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of the first stage, which finds the best.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate at the start of the cosine schedule.")] = None,
    entry: EntryOption = None,
    resolution: ResolutionOption = None,
    arm: ArmOption = None,
    seed: RunSeedOption = None,
    step: StepOption = None,
    root: RootOption = None,
    resume: ResumeOption = False,
    accept_changes: AcceptChangesOption = False,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    save_every: SaveEveryOption = 300,
) -> None:
    """Fine-tune one architecture: on the training part to find the epochs, then on training and validation images."""
    from ..deploy.finetune import FineTuneOptions, finetune
    from ..deploy.source import SourceOptions
    from ..training.context import LoggingOptions

    options = FineTuneOptions(
        out, all_exits, from_scratch, distill, epochs, lr, resume=resume, accept_changes=accept_changes,
        device=device, threads=threads, logging=LoggingOptions(save_every),
    )  # fmt: skip
    with stopped(out):
        record = finetune(SourceOptions(run, arch, entry, resolution, arm, seed, step, root), options, console)
    before = "" if record["val_top1_before"] is None else f" (before: {record['val_top1_before']:.2f} %)"
    accuracy = f"{record['val_top1']:.2f} % on validation{before}, {record['top1']:.2f} % on the test images"
    console.print(
        f"{out}: {record['epochs']} epochs; {accuracy}; export it with: ofav2 export {out} --out BUNDLE",
        soft_wrap=True,
        markup=False,
    )
