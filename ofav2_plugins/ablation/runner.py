"""Running arms one after the other into one folder, and writing what came out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric
from rich.console import Console

from ..checkpoint import write_json
from ..data.base import DataSplits
from ..progress import Reporter
from ..run import Arm, ArmRun
from ..runfolder import environment
from ..stopping import StopRequest
from ..trainer import Watch, WatchOptions


def run_arms(
    arms: Sequence[Arm],
    data: DataSplits,
    out: Path,
    fabric: Fabric,
    console: Console,
    study: dict[str, Any],
    options: WatchOptions | None = None,
    stop: StopRequest | None = None,
) -> dict[str, Any]:
    """Run arms (finished steps are found in `out/steps` and kept), write and return `out/results.json`.

    Args:
        arms: What to run; arms that share a step compute it once.
        data: The splits, the same for all.
        out: The run folder; with several processes one that all of them see.
        fabric: Device, precision, processes.
        console: Where progress is shown.
        study: The description that results and report carry.
        options: Saving, TensorBoard, energy.
        stop: Whether somebody wants it to stop.
    """
    runs = [ArmRun(arm, data, out / "steps", fabric) for arm in arms]
    results: dict[str, Any] = {"study": study, "environment": environment(fabric), "rows": []}
    with Reporter(console, sum(run.units() for run in runs)) as reporter:
        watch = Watch(reporter, stop or StopRequest(), options or WatchOptions())
        for run in runs:
            phases = run.run(watch)
            results["rows"].append(
                {
                    "arm": run.arm.name,
                    "supernet": run.arm.supernet,
                    "teacher": run.arm.recipe.teacher,
                    "seed": run.arm.seed,
                    "phases": phases,
                }
            )
            if fabric.is_global_zero:
                write_json(out / "results.json", results)
    return results
