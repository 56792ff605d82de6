"""One call of `ofav2 search`: the training, the folder, the search, the table of recommended subnets."""

from __future__ import annotations

import shlex
import shutil
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from .. import registry
from ..errors import RunError, UserError
from ..evaluation.latency_table import LatencyTable, check_machine, load_table
from ..execution.open_run import OpenRun, open_run
from ..execution.provenance import current_provenance, environment
from ..execution.run_folder import locked, open_run_folder
from ..execution.threads import set_threads
from ..executors.base import Executor
from ..searchers.problem import METRICS
from ..utils.distributed import make_fabric
from ..utils.memory import keep_freed_memory
from ..utils.progress import Reporter
from ..utils.signals import stop_on_signals
from .page import figure, write_search
from .profiling import this_machine
from .results import search_content
from .samples import SAMPLES
from .session import CANDIDATES, Search, SearchContext
from .settings import ACCURACIES, SearchSettings
from .workers import MeterSource


@dataclass(frozen=True)
class SearchCall:
    """Execution settings of a search.

    Args:
        run: The folder of a training or a study.
        out: The folder of the search.
        arm: For a study: the arm.
        run_seed: For a study: the seed of the training.
        step: The step whose weights are searched; None: the last one of a finished training.
        latency: A latency table.
        allow_other_machine: Whether the table may come from another machine.
        samples_from: Another search of the same step, whose measurements are reused.
        root: Folder of the dataset; None: its folder during training.
        resume: Continue the search in `out`.
        accept_changes: Continue even if the search was started by other code or on another device.
        executor: A plugin of `ofav2.executors`, whose workers run the measurements.
        device: "auto", "cpu", "cuda" or "mps".
        threads: CPU threads of torch in each worker; None leaves the choice to the executor.
    """

    run: Path
    out: Path
    arm: str | None = None
    run_seed: int | None = None
    step: str | None = None
    latency: Path | None = None
    allow_other_machine: bool = False
    samples_from: Path | None = None
    root: Path | None = None
    resume: bool = False
    accept_changes: bool = False
    executor: Any = "serial"
    device: str = "auto"
    threads: int | None = None


def run_search(call: SearchCall, settings: SearchSettings, console: Console) -> dict[str, Any]:
    """Search, write everything into the folder and print the table; returns the content of search.json.

    Raises:
        UserError: An unfinished or unknown training, impossible limits, a wrong table, an unrelated folder.
        KeyboardInterrupt: Stopped; everything measured so far is saved.
    """
    content, archs = search_into_folder(call, settings, console)
    print_budgets(content, archs, console)
    _print_next(call, content, archs, console)
    return content


def search_into_folder(
    call: SearchCall, settings: SearchSettings, console: Console
) -> tuple[dict[str, Any], list[Path]]:
    """`run_search` without the table; returns the content of search.json and the architectures' files."""
    keep_freed_memory()
    executor: Executor = registry.load(registry.EXECUTORS, call.executor)
    if not executor.measures:
        raise UserError(f"executor {executor.name!r} cannot measure subnets; choose serial, processes or ray")
    with closing(executor):
        executor.check()
        return _search(call, settings, executor, console)


def _search(
    call: SearchCall, settings: SearchSettings, executor: Executor, console: Console
) -> tuple[dict[str, Any], list[Path]]:
    if executor.in_process:
        set_threads(call.threads, call.out, console)
    else:
        torch.set_num_threads(call.threads or executor.threads(torch.get_num_threads()))
    run = open_run(call.run, call.arm, call.run_seed)
    source = MeterSource(
        run=call.run.resolve(),
        arm=call.arm,
        seed=call.run_seed,
        step=searched_step(run, call.step),
        root=call.root.resolve() if call.root else None,
        device=call.device,
        threshold=settings.exit_threshold,
        threads=torch.get_num_threads(),
    )
    if call.samples_from is not None and not (call.samples_from / SAMPLES).is_file():
        raise UserError(f"--samples-from must be the folder of a search, but {call.samples_from} has no {SAMPLES}")
    search = Search(source, settings, _table(call))
    fabric = make_fabric(call.device)
    open_run_folder(call.out, "search", _identity(search), current_provenance(fabric), call.resume, call.accept_changes)
    _take_over(call)
    with (
        locked(call.out),
        stop_on_signals(lambda text: console.print(text, style="yellow")) as stop,
        Reporter(console, search.work()) as reporter,
    ):
        result = search.result(SearchContext(call.out, reporter, stop, executor))
    content = search_content(result, environment(fabric))
    return content, write_search(content, search, call.out)


def searched_step(run: OpenRun, step: str | None) -> str:
    """The step whose weights are searched. Raises RunError for an unfinished training, with the remedy."""
    finished = run.finished_steps
    if step is not None:
        run.step_folder(step)  # raises for an unknown step and lists the known ones
        if step not in finished:
            raise RunError(f"{run.folder}: step {step!r} is not finished; finished are {', '.join(finished) or 'none'}")
        return step
    if not run.is_finished:
        last = f", or search its last finished step with --step {finished[-1]}" if finished else ""
        raise RunError(
            f"{run.folder} is not finished ({len(finished)} of {len(run.steps)} steps); continue the training with "
            f"--resume{last}"
        )
    return finished[-1]


def _identity(search: Search) -> dict[str, Any]:
    return {
        "run": search.run.config.to_dict(),
        "measured": search.measurement_identity(),
        "search": search.settings.identity(),
        "latency": search.table.model_dump() if search.table else None,
    }


def _table(call: SearchCall) -> LatencyTable | None:
    if call.latency is None:
        return None
    table = load_table(call.latency)
    if not call.allow_other_machine:
        check_machine(call.latency, table, this_machine(table.device))
    return table


def _take_over(call: SearchCall) -> None:
    """Copy the measurements of another search; they are checked when they are read."""
    if call.samples_from is None:
        return
    for name in (SAMPLES, CANDIDATES):
        if (call.samples_from / name).exists() and not (call.out / name).exists():
            shutil.copyfile(call.samples_from / name, call.out / name)


def print_budgets(content: dict[str, Any], archs: list[Path], console: Console) -> None:
    """Print the table of recommended subnets."""
    if not content["budgets"]:
        return
    accuracy = next(name for name in content["objectives"] if name in ACCURACIES)
    costs = {"macs": "MACs", "params": "params", "memory_mib": "MiB", "latency_ms": "ms", "expected_macs": "exp. MACs"}
    shown = [name for name in costs if any(net.get(name) is not None for net in content["front"])]
    label = METRICS[content["budgets"][0]["metric"]].label
    table = Table("at most", "top-1 %", "val. %", *(costs[name] for name in shown), "px", "file", box=None)
    for row in content["budgets"]:
        if row["front"] is None:
            table.add_row(figure(row["budget"]), "no architecture")
            continue
        net = content["front"][row["front"]]
        accuracies = (f"{net[name]:.2f}" for name in (accuracy, accuracy.replace("top1", "val_top1")))
        values = (figure(net[name]) for name in shown)
        file = f"archs/{archs[row['front']].name}"
        table.add_row(figure(row["budget"]), *accuracies, *values, str(net["resolution"]), file)
    early = " with early exit" if accuracy == "expected_top1" else ""
    title = f"The best subnet within each budget of {label}, chosen on validation images; top-1 on test images{early}"
    console.print(title, table, sep="\n")


def _print_next(call: SearchCall, content: dict[str, Any], archs: list[Path], console: Console) -> None:
    if not archs:
        return
    chosen = next((r["front"] for r in reversed(content["budgets"]) if r["front"] is not None), len(archs) - 1)
    study = [*(["--arm", call.arm] if call.arm else [])]
    command = shlex.join(["ofav2", "export", str(call.run), *study, "--arch", str(archs[chosen]), "--out", "BUNDLE"])
    console.print(f"report: {call.out / 'report.html'}\nnext: {command}", soft_wrap=True, markup=False, highlight=False)
