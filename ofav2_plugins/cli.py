"""The command line: parse, build, call; nothing else. torch is imported where a command needs it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from . import __version__
from .errors import UserError

if TYPE_CHECKING:
    from .arm import Arm

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="OFAv2 as plugins for once-for-all. Every command takes --debug, which shows the traceback of an error.",
)
data_app = typer.Typer(no_args_is_help=True, help="Datasets: download one.")
app.add_typer(data_app, name="data")
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
Phases = Annotated[str | None, typer.Option(help="Only these of the recipe's phases: level,height.")]
InitFrom = Annotated[Path | None, typer.Option(help="Start from an OFA checkpoint, or a best.safetensors of a run.")]
Out = Annotated[Path, typer.Option(help="The folder to write to; new, empty, or this run's own with --resume.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run that --out holds.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Precision = Annotated[str, typer.Option(help="32-true, bf16-mixed or 16-mixed.")]
AcceptChanges = Annotated[
    bool, typer.Option("--accept-changes", help="Resume what other code, or another device, began.")
]
SaveEvery = Annotated[float, typer.Option(min=0, help="Seconds of training that a killed process may lose.")]
TensorBoard = Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard scalars into --out/steps.")]
Energy = Annotated[str | None, typer.Option(help="Estimate energy and CO2 (codecarbon) for a country: DEU, USA.")]
Workers = Annotated[int, typer.Option(min=1, help="Arms that run at the same time, each in a process of its own.")]
Memory = Annotated[
    float | None, typer.Option(help="GiB that all workers together may take; fewer run at once where it is tight.")
]
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
        table = Table(box=None)
        for column in ("namespace", "name", "distribution", "version", "summary", "loads"):
            table.add_column(column, overflow="fold")
        for row in rows:
            status = Text("yes", "green") if row.problem is None else Text(f"no: {row.problem}", "red")
            cells = (row.namespace, row.name, row.distribution, row.version, row.summary)
            table.add_row(*map(Text, cells), status)
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
    phases: Phases = None,
    init_from: InitFrom = None,
    dataset: Annotated[str | None, typer.Option(help="Estimate the hours for it, from a short measurement.")] = None,
    root: Root = None,
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one entry a step.")] = False,
) -> None:
    """Print what a training would do: phases, opened values, epochs, rates, checkpoints, teachers, hours."""
    arm = _arm(supernet, recipe, _all_overrides(overrides, teacher, distillation), phases, init_from, seed=0)
    steps = arm.plan(arm.build(n_classes=2).space)
    hours = {} if dataset is None else _hours(arm, dataset, root, device)
    if as_json:
        entries = [step.to_dict() | ({"hours": hours[step.name]} if hours else {}) for step in steps]
        typer.echo(json.dumps(entries, indent=1))
        return
    columns = ("step", "opens", "epochs", "lr", "subnets/step", "starts from", "teacher")
    table = Table(*columns, *(["hours"] if hours else []), box=None)
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
            *([f"{hours[step.name]:.2f}"] if hours else []),
        )
    console.print(table)
    if hours:
        total = sum(hours.values())
        console.print(f"about {total:.1f} hours on this machine, estimated from a few batches of each step")


@app.command()
def doctor(
    dataset: Annotated[str | None, typer.Option(help="Also look at this dataset.")] = None,
    root: Root = None,
    run: Annotated[Path | None, typer.Option(help="Also look at this run's folder.")] = None,
    device: Device = "auto",
) -> None:
    """Check the environment, upstream's repairs, plugins, a dataset, a run folder; say what to mend."""
    from .distributed import make_fabric
    from .doctor import examine

    problems = 0
    for finding in examine(dataset, root, run, make_fabric(device)):
        mark = Text("ok   ", "green") if finding.problem is None else Text("wrong", "red")
        words = (finding.what, finding.found, finding.problem or "")
        console.print(mark, Text(": ".join(word for word in words if word)), soft_wrap=True)
        problems += finding.problem is not None
    if problems:
        console.print(f"{problems} to mend")
        raise typer.Exit(1)


@data_app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="tiny-imagenet.")],
    to: Annotated[Path, typer.Option(help="The folder to put it in.")],
    url: Annotated[str | None, typer.Option(help="Another address.")] = None,
    sha256: Annotated[
        str | None, typer.Option(help="The digest of what is there, where it is not the official one.")
    ] = None,
) -> None:
    """Download and unpack a dataset; stopped or broken off, the next call continues."""
    from dataclasses import replace

    from rich.progress import DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    from .data.fetch import ARCHIVES
    from .data.fetch import fetch as download

    if name not in ARCHIVES:
        raise UserError(f"what can be fetched is {', '.join(ARCHIVES)}, but got {name!r}")
    archive = ARCHIVES[name]
    archive = replace(archive, url=url or archive.url, sha256=(sha256 or archive.sha256).lower())
    with Progress(DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task(name, total=None)
        folder = download(archive, to, lambda done, total: bar.update(task, completed=done, total=total))
    console.print(f"{name} is in {folder}; train with --dataset {name} --root {folder}", soft_wrap=True)


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
    phases: Phases = None,
    init_from: InitFrom = None,
    resume: Resume = False,
    accept_changes: AcceptChanges = False,
    device: Device = "auto",
    precision: Precision = "32-true",
    threads: Threads = None,
    save_every: SaveEvery = 300,
    tensorboard: TensorBoard = False,
    energy: Energy = None,
) -> None:
    """Train one supernet through all its phases; writes results.json and report.html into --out."""
    from .session import Session, SessionOptions, WatchOptions, run_session

    arm = _arm(supernet, recipe, _all_overrides(overrides, teacher, distillation), phases, init_from, seed)
    settings = {"supernet": supernet, "seed": seed, "init_from": arm.initial.digest if arm.initial else None}
    watch = WatchOptions(save_every, tensorboard, energy)
    options = SessionOptions(out, resume, accept_changes, device, precision, threads, watch=watch)
    with _stopped(out):
        session = Session("train", "train", [arm], dataset, root, settings, arm.name)
        run_session(session, options, console)


@app.command()
def ablate(
    study: Annotated[str, typer.Argument(help="quick, proxy, paper, or a path to a .yaml file.")],
    out: Out,
    root: Root = None,
    overrides: Overrides = None,
    resume: Resume = False,
    accept_changes: AcceptChanges = False,
    device: Device = "auto",
    precision: Precision = "32-true",
    threads: Threads = None,
    workers: Workers = 1,
    memory: Memory = None,
    save_every: SaveEvery = 300,
    tensorboard: TensorBoard = False,
    energy: Energy = None,
) -> None:
    """Train and compare the arms of a study; writes results.json and report.html into --out."""
    from .ablation.study import load_study, study_arms
    from .session import Session, SessionOptions, WatchOptions, run_session

    loaded = load_study(study)
    arms = study_arms(loaded, overrides or [])
    settings = {"supernets": {arm.name: arm.supernet for arm in arms}, "seeds": loaded.seeds}
    watch = WatchOptions(save_every, tensorboard, energy)
    options = SessionOptions(out, resume, accept_changes, device, precision, threads, workers, memory, watch)
    with _stopped(out):
        name, dataset, baseline = Path(study).stem, loaded.dataset, loaded.baseline
        session = Session("ablate", name, arms, dataset, root, settings, baseline, loaded.about)
        run_session(session, options, console)


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(help="Run folders, or results.json files.")],
    out: Annotated[Path | None, typer.Option(help="Where to write; default: the first folder.")] = None,
) -> None:
    """Rebuild the report of a run, or merge several runs into one."""
    from .ablation.report import load_results, merge_results, write_report

    target = out or (folders[0] if folders[0].is_dir() else folders[0].parent)
    if (target / "report.html").exists() and not (target / "results.json").exists():
        raise UserError(f"{target} holds a report.html of something else; choose another --out")
    written = write_report(merge_results([load_results(folder) for folder in folders]), target)
    console.print(f"report: {written}")


def main() -> None:
    """The console script: errors are one line and a non-zero exit code; --debug shows where they came from."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        code = app(args=arguments, prog_name="ofav2", standalone_mode=False) or 0
        if code == 130:  # typer's word for Ctrl-C
            errors.print("stopped", style="yellow")
        sys.exit(code)
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
        elif isinstance(error, UserError):
            message = str(error)
        else:
            message = f"{type(error).__name__}: {error} (an unexpected error; --debug shows where)"
        errors.print(f"error: {' '.join(message.split())}", style="red", markup=False)
        sys.exit(2 if usage is not None else 1)


def _all_overrides(overrides: list[str] | None, teacher: str | None, distillation: str | None) -> list[str]:
    named = {"teacher": teacher, "distillation": distillation}
    return [*(overrides or []), *(f"{key}={value}" for key, value in named.items() if value is not None)]


def _hours(arm: Arm, dataset: str, root: Path | None, device: str) -> dict[str, float]:
    from .distributed import make_fabric
    from .estimate import estimate_hours
    from .run import load_data

    return estimate_hours(arm, load_data(dataset, root, arm.recipe.validation_fraction), make_fabric(device))


def _arm(
    supernet: str, recipe: str, overrides: list[str], phases: str | None, init_from: Path | None, seed: int
) -> Arm:
    """The one arm of `plan` and `train`."""
    from .ablation.study import check_plugins
    from .arm import Arm
    from .initial import load_initial
    from .recipes import load_recipe

    resolved = load_recipe(recipe, overrides)
    if phases is not None:
        resolved = resolved.with_phases([name.strip() for name in phases.split(",")])
    check_plugins(supernet, resolved)
    initial = load_initial(init_from) if init_from else None
    return Arm(f"{supernet} {resolved.teacher}", supernet, resolved, seed, initial)


@contextmanager
def _stopped(out: Path) -> Iterator[None]:
    """A stop says where what is done is kept."""
    try:
        yield
    except KeyboardInterrupt:
        Console(stderr=True, soft_wrap=True).print(
            f"everything done so far is kept in {out}; add --resume to go on", style="yellow"
        )
        raise
