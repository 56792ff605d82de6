"""Running arms one after the other into one folder, and writing what came out as it comes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from ..checkpoint import write_json
from ..errors import UserError
from ..progress import duration
from ..run import ArmRun
from ..runfolder import environment
from ..trainer import Watch
from .report import FORMAT, joined_environments, load_results

RESULTS = "results.json"


def run_arms(runs: Sequence[ArmRun], out: Path, fabric: Fabric, study: dict[str, Any], watch: Watch) -> dict[str, Any]:
    """Run arms (finished steps are found and kept); write `out/results.json` after each step and return it.

    Args:
        runs: What to run; arms that share a step compute it once.
        out: The run folder; with several processes one that all of them see.
        fabric: Device, precision, processes.
        study: The description that results and report carry.
        watch: Progress, stopping, saving.
    """
    results: dict[str, Any] = {"format": FORMAT, "study": study, "environment": {}, "rows": []}
    held = results
    if (out / RESULTS).exists():
        try:
            held = load_results(out / RESULTS)
        except UserError as error:
            watch.reporter.line(f"{error}; it is made again from the steps")
    sessions = [held["environment"], environment(fabric)] if held is not results else [environment(fabric)]
    rows = {(row["arm"], row["seed"]): row for row in held["rows"]}  # an earlier session's, until renewed
    for run in runs:
        phases: list[dict[str, Any]] = []
        for phase in run.run(watch):
            phases.append(phase)
            done = rows.get((run.arm.name, run.arm.seed), {"phases": []})["phases"]
            rows[run.arm.name, run.arm.seed] = {
                "arm": run.arm.name,
                "supernet": run.arm.supernet,
                "teacher": run.arm.recipe.teacher,
                "seed": run.arm.seed,
                "phases": [*phases, *done[len(phases) :]],
            }
            order = [(other.arm.name, other.arm.seed) for other in runs]
            results["rows"] = [rows[key] for key in order if key in rows]
            # A session that only finds finished work has measured nothing.
            results["environment"] = joined_environments(sessions if watch.reporter.worked else sessions[:1])
            if fabric.is_global_zero:
                write_json(out / RESULTS, results)
            watch.reporter.line(
                f"{run.arm.name}: {phase['name']:9s} best {phase['best_top1']:4.1f} %, "
                f"mean {phase['mean_top1']:4.1f} %, took {duration(phase['seconds'])}; {watch.reporter.eta()}"
            )
    return results
