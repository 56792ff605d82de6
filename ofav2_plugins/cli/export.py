"""Command `ofav2 export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from .app import app, console
from .deploy_options import (
    ArmOption,
    EntryOption,
    ExitRuleOption,
    ResolutionOption,
    RunArgument,
    RunSeedOption,
    SettingsOption,
    StepOption,
    plugins_with_settings,
)
from .options import RootOption


@app.command(epilog="Example: ofav2 export runs/ee_d --arch arch.json --out bundle")
def export(
    run: RunArgument,
    out: Annotated[Path, typer.Option(help="The folder to write; it must not exist.")],
    arch: Annotated[
        Path | None,
        typer.Option(help="A JSON file: an architecture or a search.json; fine-tuned folders need none."),
    ] = None,
    formats: Annotated[
        str, typer.Option(help="File formats, plugins of ofav2.exporters, separated by commas.")
    ] = "onnx,torch_export",
    exits: Annotated[
        Literal["last", "ensemble", "early"],
        typer.Option(help="Output: of the last exit, of the best ensemble of exits, or of the first confident exit."),
    ] = "last",
    exit_rule: ExitRuleOption = "max_prob",
    target_top1: Annotated[
        float | None,
        typer.Option(help="Early exits: smallest validation accuracy in %; default: that of the last exit."),
    ] = None,
    target_macs: Annotated[float | None, typer.Option(help="Early exits: largest mean MACs of an image.")] = None,
    quantize: Annotated[str | None, typer.Option(help="int8: also write a quantized ONNX file.")] = None,
    max_int8_loss: Annotated[
        float | None,
        typer.Option(
            min=0, help="Limit of the validation accuracy lost to int8, in points; above it, only fp32 is kept."
        ),
    ] = None,
    entry: EntryOption = None,
    resolution: ResolutionOption = None,
    arm: ArmOption = None,
    seed: RunSeedOption = None,
    step: StepOption = None,
    root: RootOption = None,
    settings: SettingsOption = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of the measurements.")] = 1,
) -> None:
    """Export a subnet as a verified bundle: configuration, weights, one file per format, model card."""
    from ..deploy.decision import DecisionOptions
    from ..deploy.export import ExportOptions, export_bundle
    from ..deploy.source import SourceOptions

    listed = [name.strip() for name in formats.split(",")]
    plugins = plugins_with_settings({"formats": listed, "exit_rule": exit_rule}, settings or [])
    bundle = export_bundle(
        SourceOptions(run, arch, entry, resolution, arm, seed, step, root),
        DecisionOptions(exits, plugins["exit_rule"], target_top1, target_macs),
        ExportOptions(out, plugins["formats"], quantize, max_int8_loss, threads),
        progress=lambda text: console.print(text, soft_wrap=True, markup=False),
    )
    figures = bundle.verification["measured"]["decision"]
    console.print(
        f"{bundle.folder}: {', '.join(bundle.formats)}; {figures['top1']:.2f} % on the test images; verified",
        soft_wrap=True,
        markup=False,
    )
