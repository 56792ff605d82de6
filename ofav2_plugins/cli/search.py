"""Command `ofav2 search`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError
from .app import app
from .options import (
    AcceptChangesOption,
    AddressOption,
    DeviceOption,
    ExecutorOption,
    OutOption,
    OverridesOption,
    ResumeOption,
    RootOption,
    ThreadsOption,
    WorkersOption,
    check_addressed,
    executor_option,
    stopped,
    with_settings,
)

RunArgument = Annotated[Path, typer.Argument(help="The folder of a training run, or of a study together with --arm.")]
ArmOption = Annotated[str | None, typer.Option(help="The arm of a study.")]
RunSeedOption = Annotated[int | None, typer.Option(help="The seed of the run, if the arm has several.")]
StepOption = Annotated[
    str | None, typer.Option(help="Search the weights of this step; default: the last step of a finished training.")
]
ObjectivesOption = Annotated[
    str,
    typer.Option(help="top1, macs, params, latency, memory, expected_top1, expected_macs; separated by commas."),
]
MaxMacsOption = Annotated[float | None, typer.Option(help="Upper limit on the MACs (multiply-accumulates).")]
MaxParamsOption = Annotated[float | None, typer.Option(help="Upper limit on the number of parameters.")]
MaxLatencyMsOption = Annotated[float | None, typer.Option(help="Upper limit on the latency; needs --latency.")]
MaxMemoryMibOption = Annotated[float | None, typer.Option(help="Upper limit on the peak activation memory.")]
MaxExpectedMacsOption = Annotated[float | None, typer.Option(help="Upper limit on the expected MACs with early exits.")]
MinTop1Option = Annotated[float | None, typer.Option(help="Lower limit on the predicted top-1 accuracy in %.")]
LatencyOption = Annotated[Path | None, typer.Option(help="A latency table written by `ofav2 profile`.")]
AllowOtherMachineOption = Annotated[
    bool, typer.Option("--allow-other-machine", help="Use a latency table of another machine.")
]
BudgetsOption = Annotated[
    str | None,
    typer.Option(help="Report the best subnet within each budget: 2e6,4e6. Default: fractions of the largest cost."),
]
SearcherOption = Annotated[str, typer.Option(help="A plugin of ofav2.searchers.")]
PredictorOption = Annotated[str, typer.Option(help="A plugin of ofav2.predictors.")]
SamplesOption = Annotated[int, typer.Option(help="Number of architectures measured to fit the predictor.")]
EvaluationsOption = Annotated[
    int, typer.Option(help="Number of architectures the search evaluates with the predictor.")
]
FrontSizeOption = Annotated[int, typer.Option(help="Number of architectures of the predicted front that are measured.")]
ExitThresholdOption = Annotated[
    float, typer.Option(help="Confidence at which an image exits early (for expected_top1 and expected_macs).")
]
SeedOption = Annotated[int, typer.Option(help="Seed of all random numbers of the search.")]
SamplesFromOption = Annotated[
    Path | None, typer.Option(help="Reuse the measurements of another search of the same training.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print search.json at the end; progress goes to stderr.")]


@app.command(epilog="Example: ofav2 search runs/ee_d --out runs/search --objectives top1,macs --max-macs 4e6")
def search(
    run: RunArgument,
    out: OutOption,
    objectives: ObjectivesOption = "top1,macs",
    max_macs: MaxMacsOption = None,
    max_params: MaxParamsOption = None,
    max_latency_ms: MaxLatencyMsOption = None,
    max_memory_mib: MaxMemoryMibOption = None,
    max_expected_macs: MaxExpectedMacsOption = None,
    min_top1: MinTop1Option = None,
    latency: LatencyOption = None,
    allow_other_machine: AllowOtherMachineOption = False,
    budgets: BudgetsOption = None,
    searcher: SearcherOption = "nsga2",
    predictor: PredictorOption = "gbm",
    samples: SamplesOption = 300,
    evaluations: EvaluationsOption = 5000,
    front_size: FrontSizeOption = 24,
    exit_threshold: ExitThresholdOption = 0.8,
    overrides: OverridesOption = None,
    seed: SeedOption = 0,
    arm: ArmOption = None,
    run_seed: RunSeedOption = None,
    step: StepOption = None,
    samples_from: SamplesFromOption = None,
    root: RootOption = None,
    resume: ResumeOption = False,
    accept_changes: AcceptChangesOption = False,
    executor: ExecutorOption = None,
    workers: WorkersOption = None,
    address: AddressOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the best subnets of a trained supernet under hard limits; writes search.json and report.html."""
    from rich.console import Console

    from ..search.command import SearchCall, run_search
    from ..search.settings import SearchSettings
    from ..utils.yaml_files import validate
    from .app import console

    check_addressed(overrides or [], ("searcher", "predictor", "executor"))
    limits = {
        "macs": max_macs,
        "params": max_params,
        "latency_ms": max_latency_ms,
        "memory_mib": max_memory_mib,
        "expected_macs": max_expected_macs,
        "top1": min_top1,
    }
    given = {
        "objectives": [name.strip() for name in objectives.split(",")],
        "limits": {name: bound for name, bound in limits.items() if bound is not None},
        "budgets": None if budgets is None else _numbers(budgets),
        "searcher": with_settings(searcher, "searcher", overrides or []),
        "predictor": with_settings(predictor, "predictor", overrides or []),
        "samples": samples,
        "evaluations": evaluations,
        "front_size": front_size,
        "exit_threshold": exit_threshold,
        "seed": seed,
    }
    settings = validate(given, SearchSettings, "ofav2 search", load_plugins=True)
    call = SearchCall(
        run=run,
        out=out,
        arm=arm,
        run_seed=run_seed,
        step=step,
        latency=latency,
        allow_other_machine=allow_other_machine,
        samples_from=samples_from,
        root=root,
        resume=resume,
        accept_changes=accept_changes,
        executor=executor_option(executor, overrides or [], workers=workers, address=address),
        device=device,
        threads=threads,
    )
    with stopped(out):
        run_search(call, settings, Console(stderr=True) if as_json else console)
    if as_json:
        typer.echo((out / "search.json").read_text(encoding="utf-8"), nl=False)


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise UserError(f"--budgets must be numbers separated by commas, but got {text!r}") from error
