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
from ..run import Arm, ArmRun, environment


def run_arms(
    arms: Sequence[Arm], data: DataSplits, out: Path, fabric: Fabric, console: Console, study: dict[str, Any]
) -> dict[str, Any]:
    """Run arms (finished steps are found in `out/steps` and kept), write and return `out/results.json`.

    Args:
        arms: What to run; arms that share a step compute it once.
        data: The splits, the same for all.
        out: The run folder.
        fabric: Device and precision.
        console: Where progress is shown.
        study: The description that results and report carry.
    """
    runs = [ArmRun(arm, data, out / "steps", fabric) for arm in arms]
    results: dict[str, Any] = {"study": study, "environment": environment(), "rows": []}
    with Reporter(console, sum(run.units() for run in runs)) as reporter:
        for run in runs:
            phases = run.run(reporter)
            results["rows"].append(
                {
                    "arm": run.arm.name,
                    "supernet": run.arm.supernet,
                    "teacher": run.arm.recipe.teacher,
                    "seed": run.arm.seed,
                    "phases": phases,
                }
            )
            write_json(out / "results.json", results)
    return results
