"""Scaling of studies over workers: overhead of the executors, and the `paper` study on 1 to 64 workers.

    python benchmarks/scaling.py overhead     # on an otherwise idle machine; about ten minutes
    python benchmarks/scaling.py simulate     # any machine; about two minutes

`overhead` executes a small study with one worker of each executor, and compares the differences from `serial` with the
duration of a run of the study `quick`.
`simulate` executes the 32 runs of the `paper` study in virtual time: the scheduling is that of the executors, the
duration of a step is its multiply-accumulates (training, selection of the best epoch, measuring) divided by the speed
recorded in results/speed.json. Both write results/scaling.json; `simulate` draws results/scaling.png.
"""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from rich.console import Console

from ofav2_plugins.data.base import DataSplits, Split
from ofav2_plugins.evaluation.accuracy import Evaluator
from ofav2_plugins.evaluation.candidates import by_trunk
from ofav2_plugins.evaluation.cost import cost
from ofav2_plugins.execution.measuring import measured_candidates
from ofav2_plugins.execution.provenance import environment
from ofav2_plugins.execution.training_run import TrainingRun
from ofav2_plugins.executors.messages import Ended, Message, PhaseFinished
from ofav2_plugins.executors.scheduling import ActiveRun, Schedule
from ofav2_plugins.models.supernet import Supernet, build_supernet
from ofav2_plugins.study.schema import load_study, study_arms
from ofav2_plugins.training.context import LoggingOptions, RunContext
from ofav2_plugins.training.cost import DRAWS, TRAINING_COST
from ofav2_plugins.training.plan import PlannedStep
from ofav2_plugins.training.run_config import RunConfig
from ofav2_plugins.training.trainer import selection_candidates
from ofav2_plugins.utils.distributed import make_fabric
from ofav2_plugins.utils.progress import Reporter
from ofav2_plugins.utils.seeding import python_rng
from ofav2_plugins.utils.signals import StopRequest

RESULTS = Path(__file__).parent / "results"
WORKERS = (1, 2, 4, 8, 12, 16, 20, 24, 28, 32, 48, 64)

EXECUTORS = {
    "serial": ["--executor", "serial"],
    "processes": ["--executor", "processes", "--workers", "1"],
    "ray": ["--executor", "ray", "--workers", "1"],
    "slurm (local)": ["--executor", "slurm", "--workers", "1", "--set", "executor.cluster=local"],
}
SMALL = [
    "phases={full: {epochs: 1, warmup_epochs: 0, lr: 0.05}, kernel: {epochs: 1, warmup_epochs: 0, lr: 0.01}}",
    "evaluation.final_trunks=4",
]
"""Overrides that make the two runs of `quick` short: what an executor adds does not depend on their length."""


REPEATS = 3
"""Measurements of each executor, of which the fastest counts."""


def measure_overhead(small: Sequence[str] = SMALL, quick: Sequence[str] = ()) -> dict[str, Any]:
    """Seconds that each executor adds to a run, in total and relative to a run of the study `quick`.

    Args:
        small: Overrides of the study that each executor executes, with one worker and one thread.
        quick: Overrides of the study whose duration is the reference; none for `quick` itself.
    """
    seconds = dict.fromkeys(EXECUTORS, math.inf)
    for repeat in range(REPEATS):
        for name, options in EXECUTORS.items():
            seconds[name] = min(seconds[name], ablation_seconds(small, options))
            print(f"{repeat + 1}/{REPEATS} {name:14s} {seconds[name]:6.1f} s", flush=True)
    whole = ablation_seconds(quick, EXECUTORS["serial"])
    added = {name: (value - seconds["serial"]) / 2 for name, value in seconds.items()}
    percent = {name: 100 * value / (whole / 2) for name, value in added.items()}
    for name, value in added.items():
        print(f"{name:14s} adds {value:4.1f} s to each run: {percent[name]:4.1f} % of a run of the study quick")
    return {
        "runs": 2,
        "repeats": REPEATS,
        "seconds": seconds,
        "quick_seconds": whole,
        "overhead_seconds_per_run": added,
        "overhead_percent_of_quick": percent,
        "environment": environment(make_fabric("cpu")),
    }


def ablation_seconds(overrides: Sequence[str], options: Sequence[str]) -> float:
    """Duration of the command that executes the two runs of the study `quick` with overrides."""
    with tempfile.TemporaryDirectory() as folder:
        settings = [part for override in overrides for part in ("--set", override)]
        command = ["ablate", "quick", "--threads", "1", "--out", folder, *options, *settings]
        started = time.monotonic()
        subprocess.run([sys.executable, "-m", "ofav2_plugins", *command], check=True, stdout=subprocess.DEVNULL)
        return time.monotonic() - started


def tiny_imagenet() -> DataSplits:
    """The sizes of Tiny ImageNet, without its images."""

    def split(n_images: int) -> Split:
        images = np.broadcast_to(np.zeros((1, 3, 64, 64), np.uint8), (n_images, 3, 64, 64))
        return Split(images, np.arange(n_images) % 200)

    names = tuple(map(str, range(200)))
    colors = (0.48, 0.45, 0.40), (0.28, 0.27, 0.28)
    return DataSplits("sizes", split(85_000), split(15_000), split(10_000), names, (48, 52, 56, 60, 64), *colors, "-")


@dataclass(frozen=True)
class PlannedRun:
    """The scheduling data of a run.

    Args:
        config: The run.
        folders: The folders of its steps.
        work: Its work in image passes, by which the executors choose the next run; equal values keep the given order.
    """

    config: RunConfig
    folders: dict[str, Path]
    work: float

    def remaining_work(self) -> float:
        """As in `TrainingRun`."""
        return self.work


def plan_runs(data: DataSplits) -> tuple[list[PlannedRun], dict[Path, float]]:
    """The runs of the study `paper`, and the multiply-accumulates of each step by its folder."""
    fabric, runs, macs, known = make_fabric("cpu"), [], dict[Path, float](), dict[Any, Any]()
    for config in study_arms(load_study("paper")):
        network = config.supernet, config.recipe.width_mult
        if network not in known:
            known[network] = build_supernet(config.supernet, 200, width_mult=config.recipe.width_mult)
        net = known[network]
        plan, evaluator = config.plan(net.space), Evaluator(data, config.recipe, fabric, config.seed)
        run = TrainingRun(config, data, Path("steps"), fabric)
        folders = run.folders
        runs.append(PlannedRun(config, folders, run.work()))
        for planned in plan:
            key = *network, planned.name  # both teacher policies train the same networks
            if key not in known:
                known[key] = step_macs(net, config, planned, evaluator, planned.name == plan[-1].name)
            macs.setdefault(folders[planned.name], known[key])
    return runs, macs


def step_macs(net: Supernet, config: RunConfig, planned: PlannedStep, evaluator: Evaluator, last: bool) -> float:
    """MACs of a step: training, teacher, selection of the best epoch and measuring, at the middle resolution.

    Trained networks are counted by the mean of `DRAWS` optimizer steps, evaluated ones by the mean of the largest and
    the smallest network of the step.
    """
    recipe, data, settings = config.recipe, evaluator.data, planned.settings
    size, epochs = sorted(evaluator.resolutions)[len(evaluator.resolutions) // 2], settings.epochs
    epochs += settings.warmup_epochs
    drawn = [
        planned.phase.archs(planned.space, python_rng("scaling", i), settings.subnets_per_step) for i in range(DRAWS)
    ]
    trained = sum(cost(net, arch, size).macs for archs in drawn for arch in archs) / DRAWS
    largest, smallest = (cost(net, arch, size).macs for arch in (planned.space.max_arch(), planned.space.min_arch()))
    teacher = largest if planned.teacher is not None else 0
    selection = epochs * len(selection_candidates(planned, evaluator, config.seed))
    measured = len(by_trunk(measured_candidates(config, planned, evaluator, last)))
    images = (
        selection * (recipe.evaluation.bn_images + len(data.validation)) + measured * evaluator.images_per_candidate
    )
    return epochs * len(data.train) * (TRAINING_COST * trained + teacher) + images * (largest + smallest) / 2


class VirtualRun(ActiveRun):
    """A run in virtual time; finished steps take no time.

    Args:
        run: The run.
        now: Its start time.
        seconds: Duration of each step by its folder.
        finished: The folders of the steps that are finished.
    """

    def __init__(self, run: PlannedRun, now: float, seconds: Mapping[Path, float], finished: set[Path]):
        super().__init__(run)
        self.events: list[tuple[float, str]] = []
        for name, folder in run.folders.items():
            now += 0 if folder in finished else seconds[folder]
            self.events.append((now, name))


class VirtualWorkers:
    """A backend whose workers only advance virtual time.

    Args:
        workers: Number of workers.
        seconds: Duration of each step by its folder.
    """

    def __init__(self, workers: int, seconds: Mapping[Path, float]):
        self.workers, self.seconds = workers, seconds
        self.now, self.finished = 0.0, set[Path]()

    def start(self, run: PlannedRun, active: Sequence[VirtualRun]) -> VirtualRun | None:
        return VirtualRun(run, self.now, self.seconds, self.finished) if len(active) < self.workers else None

    def poll(self, active: Sequence[VirtualRun]) -> Iterator[tuple[VirtualRun, Message]]:
        first = min(active, key=lambda virtual: virtual.events[0][0])
        self.now, name = first.events.pop(0)
        self.finished.add(first.run.folders[name])
        yield first, PhaseFinished({"name": name})
        if not first.events:
            yield first, Ended()

    def stop(self, active: Sequence[VirtualRun]) -> None:
        pass

    def kill(self, active: Sequence[VirtualRun]) -> None:
        pass


class NoResults:
    """Ignores results."""

    out = Path()

    def add_environment(self, environment: dict[str, Any]) -> None:
        pass

    def add_phase(self, run: PlannedRun, phase: dict[str, Any]) -> None:
        pass

    def add_failure(self, run: PlannedRun, reason: str) -> None:
        raise AssertionError(reason)


def makespan(runs: Sequence[PlannedRun], workers: int, seconds: Mapping[Path, float]) -> float:
    """The end of the last run, in seconds of virtual time."""
    backend = VirtualWorkers(workers, seconds)
    context = RunContext(Reporter(Console(file=io.StringIO()), 1), StopRequest(), LoggingOptions())
    Schedule(runs, NoResults(), context, backend).execute()
    return backend.now


def simulate() -> dict[str, Any]:
    """The `paper` study on 1 to 64 workers: makespan as executed and in the study's order."""
    speed = json.loads((RESULTS / "speed.json").read_text())
    images = next(r for r in speed["rows"] if r["work"] == "training, maximal network, 64 px")
    net = build_supernet("SE_B", 200)
    rate = images["our_images_per_second"] * TRAINING_COST * cost(net, net.space.max_arch(), 64).macs
    runs, macs = plan_runs(tiny_imagenet())
    seconds = {folder: value / rate for folder, value in macs.items()}
    own = {id(run): sum(seconds[folder] for folder in run.folders.values()) for run in runs}
    in_study_order = [replace(run, work=0) for run in runs]
    critical, total = max(own.values()), sum(seconds.values())
    rows = []
    for workers in WORKERS:
        row = {
            "workers": workers,
            "lower_bound_days": max(critical, total / workers) / 86400,
            "makespan_days": makespan(runs, workers, seconds) / 86400,
            "study_order_days": makespan(in_study_order, workers, seconds) / 86400,
        }
        rows.append(row)
        print("  ".join(f"{key} {value:.1f}" for key, value in row.items()), flush=True)
    return {
        "macs_per_second": rate,
        "machine": speed["environment"]["processor"] + ", 2 cores",
        "runs": len(runs),
        "steps": sum(len(run.folders) for run in runs),
        "computed_steps": len(seconds),
        "critical_path_days": critical / 86400,
        "total_days": total / 86400,
        "total_days_without_sharing": sum(own.values()) / 86400,
        "rows": rows,
    }


def draw(found: Mapping[str, Any]) -> None:
    """The makespans against the lower bound."""
    figure, axes = plt.subplots(figsize=(7, 4))
    workers = [row["workers"] for row in found["rows"]]
    for key, label, style in (
        ("makespan_days", "executors: most work first", "o-"),
        ("study_order_days", "in the order of the study", "s--"),
        ("lower_bound_days", "lower bound", "k:"),
    ):
        axes.plot(workers, [row[key] for row in found["rows"]], style, label=label)
    axes.axhline(found["critical_path_days"], color="gray", lw=0.8)
    axes.text(1, found["critical_path_days"] * 1.05, "critical path: the longest run", color="gray", fontsize=8)
    axes.set(xscale="log", yscale="log", xlabel="workers (each two CPU cores)", ylabel="makespan in days")
    axes.set_xticks(workers, map(str, workers), fontsize=8)
    axes.set_title("The study `paper` (32 runs), simulated", fontsize=10)
    axes.legend()
    figure.savefig(RESULTS / "scaling.png", dpi=150, bbox_inches="tight")


def main() -> None:
    """Execute the named part and add it to the recorded results."""
    parts = {"overhead": measure_overhead, "simulate": simulate}
    if len(sys.argv) != 2 or sys.argv[1] not in parts:
        sys.exit(f"usage: {sys.argv[0]} {{{','.join(parts)}}}")
    name, path = sys.argv[1], RESULTS / "scaling.json"
    recorded = json.loads(path.read_text()) if path.exists() else {}
    recorded[name] = parts[name]()
    path.write_text(json.dumps(recorded, indent=1) + "\n")
    if name == "simulate":
        draw(recorded[name])


if __name__ == "__main__":
    main()
