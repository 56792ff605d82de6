"""The command line: parse, build, call; nothing else. torch is imported where a command needs it."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from . import __version__
from .errors import UserError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="OFAv2 as plugins for once-for-all. Every command takes --debug, which shows the traceback of an error.",
)
console = Console()

Supernet = Annotated[str, typer.Option(help="SE_|EE_ x B|D|P|DP, or 'branches=a+b,skip=c,exits=d' by plugin names.")]
RecipeName = Annotated[str, typer.Option(help="quick, proxy, paper, or a path to a .yaml file.")]
Dataset = Annotated[str, typer.Option(help="A plugin of ofav2.datasets; see `ofav2 plugins`.")]
Root = Annotated[Path | None, typer.Option(help="The folder the dataset is in (the embedded one needs none).")]
Teacher = Annotated[str | None, typer.Option(help="none, fixed or progressive; default: the recipe's.")]
Distillation = Annotated[str | None, typer.Option(help="none, soft_ce or mse; default: the recipe's.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Override a recipe's field: phases.full.epochs=3. Repeatable.")
]
Out = Annotated[Path, typer.Option(help="The folder to write to; new, empty, or this run's own with --resume.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run that --out holds.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Precision = Annotated[str, typer.Option(help="32-true, bf16-mixed or 16-mixed.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads of torch; default: torch's own.")]


@app.callback(invoke_without_command=True)
def version_option(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """Options before the command."""
    if version:
        typer.echo(__version__)
        raise typer.Exit()


@app.command()
def plugins(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List every plugin: name, namespace, distribution, version, summary, and whether it loads."""
    from .registry import describe

    rows = describe()
    if as_json:
        typer.echo(json.dumps([vars(row) for row in rows], indent=1))
    else:
        table = Table("namespace", "name", "distribution", "version", "summary", "loads", box=None)
        for row in rows:
            status = "[green]yes[/]" if row.problem is None else f"[red]no: {row.problem}[/]"
            table.add_row(row.namespace, row.name, row.distribution, row.version, row.summary, status)
        console.print(table)
    if any(row.problem for row in rows):
        raise typer.Exit(1)


@app.command()
def plan(
    supernet: Supernet,
    recipe: RecipeName = "paper",
    teacher: Teacher = None,
    distillation: Distillation = None,
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one entry a step.")] = False,
) -> None:
    """Print what a training would do: phases, opened values, epochs, rates, checkpoints, teachers."""
    from .ablation.study import check_plugins
    from .recipes import load_recipe
    from .run import Arm

    resolved = load_recipe(recipe, _all_overrides(overrides, teacher, distillation))
    check_plugins(supernet, resolved)
    arm = Arm(supernet, supernet, resolved, seed=0)
    steps = arm.plan(arm.build(n_classes=2).space)
    if as_json:
        typer.echo(json.dumps([step.to_dict() for step in steps], indent=1))
        return
    table = Table("step", "opens", "epochs", "lr", "subnets/step", "starts from", "teacher", box=None)
    for step in steps:
        settings = step.settings
        opens = ", ".join(f"{dim} {list(grades)}" for dim, grades in step.opens.items()) or "(maximal network)"
        epochs = f"{settings.warmup_epochs} + {settings.epochs}" if settings.warmup_epochs else f"{settings.epochs}"
        table.add_row(
            step.name,
            opens,
            epochs,
            f"{settings.lr:g}",
            str(settings.subnets_per_step),
            step.starts_from or "fresh weights",
            step.teacher or "none",
        )
    console.print(table)


@app.command()
def train(
    supernet: Supernet,
    out: Out,
    recipe: RecipeName = "quick",
    dataset: Dataset = "fashion-mini",
    root: Root = None,
    teacher: Teacher = None,
    distillation: Distillation = None,
    seed: Seed = 0,
    overrides: Overrides = None,
    resume: Resume = False,
    device: Device = "auto",
    precision: Precision = "32-true",
    threads: Threads = None,
) -> None:
    """Train one supernet through all its phases; writes results.json and report.html into --out."""
    from .ablation.study import check_plugins
    from .recipes import load_recipe
    from .run import Arm

    resolved = load_recipe(recipe, _all_overrides(overrides, teacher, distillation))
    check_plugins(supernet, resolved)
    arm = Arm(f"{supernet} {resolved.teacher}", supernet, resolved, seed)
    settings = {"supernet": supernet, "dataset": dataset, "seed": seed, "recipe": resolved.model_dump()}
    _run([arm], "train", settings, dataset, root, out, resume, device, precision, threads, baseline=arm.name)


@app.command()
def ablate(
    study: Annotated[str, typer.Argument(help="quick, or a path to a .yaml file.")],
    out: Out,
    root: Root = None,
    overrides: Overrides = None,
    resume: Resume = False,
    device: Device = "auto",
    precision: Precision = "32-true",
    threads: Threads = None,
) -> None:
    """Train and compare the arms of a study; writes results.json and report.html into --out."""
    from .ablation.study import load_study, study_arms

    loaded = load_study(study)
    arms = study_arms(loaded, overrides or [])
    settings = {"study": loaded.model_dump(), "overrides": list(overrides or [])}
    _run(
        arms, "ablate", settings, loaded.dataset, root, out, resume, device, precision, threads,
        baseline=loaded.baseline, description=loaded.description,
    )  # fmt: skip


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(help="Run folders, or results.json files.")],
    out: Annotated[Path | None, typer.Option(help="Where to write; default: the first folder.")] = None,
) -> None:
    """Rebuild the report of a run, or merge several runs into one."""
    from .ablation.report import load_results, merge_results, write_report

    target = out or (folders[0] if folders[0].is_dir() else folders[0].parent)
    written = write_report(merge_results([load_results(folder) for folder in folders]), target)
    console.print(f"report: {written}")


def main() -> None:
    """The console script: errors are one line and a non-zero exit code; --debug shows where they came from."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        sys.exit(app(args=arguments, prog_name="ofav2", standalone_mode=False) or 0)
    except KeyboardInterrupt:
        errors.print("stopped", style="yellow")
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
    except Exception as error:
        if debug:
            raise
        usage = getattr(error, "format_message", None)  # typer's own errors: a wrong option or value
        if usage is not None and not usage():
            sys.exit(2)  # no command: typer has printed the help
        if usage is not None:
            message = f"{usage()} (see `ofav2 --help`)"
        elif isinstance(error, (UserError, ValueError)):
            message = str(error)
        else:
            message = f"{type(error).__name__}: {error} (an unexpected error; --debug shows where)"
        errors.print(f"error: {' '.join(message.split())}", style="red", markup=False)
        sys.exit(2 if usage is not None else 1)


def _all_overrides(overrides: list[str] | None, teacher: str | None, distillation: str | None) -> list[str]:
    named = {"teacher": teacher, "distillation": distillation}
    return [*(overrides or []), *(f"{key}={value}" for key, value in named.items() if value is not None)]


def _run(
    arms: list[Any],
    kind: str,
    settings: dict[str, Any],
    dataset: str,
    root: Path | None,
    out: Path,
    resume: bool,
    device: str,
    precision: str,
    threads: int | None,
    *,
    baseline: str,
    description: str = "",
) -> None:
    """What `train` and `ablate` share: the data, the run folder, the runs, the table and the report."""
    import torch

    from .ablation.report import print_table, write_report
    from .ablation.runner import run_arms
    from .run import load_data, make_fabric, open_run_folder

    if threads is not None:
        torch.set_num_threads(threads)
    fabric = make_fabric(device, precision)
    data = load_data(dataset, root, arms[0].recipe, arms[0].seed)
    settings["data"] = data.fingerprint
    open_run_folder(out, kind, settings, resume)
    sizes = f"{len(data.train)} training, {len(data.validation)} validation, {len(data.test)} test images"
    console.print(f"{dataset}: {data.n_classes} classes, {sizes}; {len(arms)} arm(s); results in {out}")
    study = {
        "name": kind,
        "description": description,
        "baseline": baseline,
        "dataset": dataset,
        "recipes": {arm.name: arm.recipe.model_dump() for arm in arms},
        "command": "ofav2 " + " ".join(sys.argv[1:]),
    }
    with _stoppable(out):
        results = run_arms(arms, data, out, fabric, console, study)
    print_table(results, console)
    console.print(f"report: {write_report(results, out)}")


@contextmanager
def _stoppable(out: Path) -> Iterator[None]:
    """Ctrl-C and SIGTERM stop with a word and exit code 130; what is finished is kept."""

    def stop(_signal: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        Console(stderr=True).print(
            f"stopped; everything finished so far is kept in {out}; add --resume to go on", style="yellow"
        )
        raise typer.Exit(130) from None
    finally:
        signal.signal(signal.SIGTERM, previous)
