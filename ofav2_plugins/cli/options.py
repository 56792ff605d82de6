"""Options that several commands share, and what is built from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..training.run_config import RunConfig

SupernetOption = Annotated[
    str, typer.Option(help="SE_|EE_ x B|D|P|DP, or 'branches=a+b,skip=c,exits=d' by plugin names.")
]
RecipeOption = Annotated[str, typer.Option(help="quick, proxy, paper, or a path to a .yaml file.")]
DatasetOption = Annotated[str, typer.Option(help="A plugin of ofav2.datasets; see `ofav2 plugins`.")]
RootOption = Annotated[Path | None, typer.Option(help="The folder the dataset is in (the embedded one needs none).")]
TeacherOption = Annotated[str | None, typer.Option(help="none, fixed or progressive; default: the recipe's.")]
DistillationOption = Annotated[str | None, typer.Option(help="none, soft_ce or mse; default: the recipe's.")]
OverridesOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override a recipe's field: phases.full.epochs=3. Repeatable.")
]
PhasesOption = Annotated[str | None, typer.Option(help="Only these of the recipe's phases: level,height.")]
InitFromOption = Annotated[
    Path | None, typer.Option(help="Start from an OFA checkpoint, or a best.safetensors of a run.")
]
OutOption = Annotated[Path, typer.Option(help="The folder to write to; new, empty, or this run's own with --resume.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Continue the run that --out holds.")]
SeedOption = Annotated[int, typer.Option(help="Seed of everything random.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
PrecisionOption = Annotated[str, typer.Option(help="32-true, bf16-mixed or 16-mixed.")]
AcceptChangesOption = Annotated[
    bool, typer.Option("--accept-changes", help="Resume what other code, or another device, began.")
]
SaveEveryOption = Annotated[float, typer.Option(min=0, help="Seconds of training that a killed process may lose.")]
TensorBoardOption = Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard scalars into --out/steps.")]
EnergyOption = Annotated[str | None, typer.Option(help="Estimate energy and CO2 (codecarbon) for a country: DEU, USA.")]
WorkersOption = Annotated[
    int, typer.Option(min=1, help="Arms that run at the same time, each in a process of its own.")
]
MemoryOption = Annotated[
    float | None, typer.Option(help="GiB that all workers together may take; fewer run at once where it is tight.")
]
ThreadsOption = Annotated[int | None, typer.Option(min=1, help="CPU threads of torch; default: torch's own.")]


def all_overrides(overrides: list[str] | None, teacher: str | None, distillation: str | None) -> list[str]:
    named = {"teacher": teacher, "distillation": distillation}
    return [*(overrides or []), *(f"{key}={value}" for key, value in named.items() if value is not None)]


def arm_from_options(
    supernet: str, recipe: str, overrides: list[str], phases: str | None, init_from: Path | None, seed: int
) -> RunConfig:
    """The one arm of `plan` and `train`."""
    from ..models.pretrained import load_initial
    from ..recipes.schema import load_recipe
    from ..study.schema import check_plugins
    from ..training.run_config import RunConfig

    resolved = load_recipe(recipe, overrides)
    if phases is not None:
        resolved = resolved.with_phases([name.strip() for name in phases.split(",")])
    check_plugins(supernet, resolved)
    initial = load_initial(init_from) if init_from else None
    return RunConfig(f"{supernet} {resolved.teacher}", supernet, resolved, seed, initial)
