"""The results of a study as they come: rows of arms and seeds, written after every phase."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from ..errors import UserError
from ..execution.provenance import environment
from ..execution.training_run import TrainingRun
from ..models.spec import supernet_label
from ..plugin import describe_reference
from ..training.run_config import RunConfig
from ..utils.files import write_json
from ..utils.progress import Reporter, duration
from .results import FORMAT, RESULTS, FormatError, joined_environments, load_results


class StudyResults:
    """What `results.json` holds; an earlier session's rows stay until they are renewed.

    Args:
        runs: Every arm and seed of the study, in its order.
        out: The run folder.
        fabric: What it is computed with.
        study: The description that results and report carry.
        reporter: Told of every phase, when it is written.

    Raises:
        FormatError: The folder's results are another version's; they stay as they are.
    """

    def __init__(
        self, runs: Sequence[TrainingRun], out: Path, fabric: Fabric, study: dict[str, Any], reporter: Reporter
    ):
        self.arms, self.out, self.fabric, self.reporter = [run.config for run in runs], out, fabric, reporter
        held: dict[str, Any] = {"environment": None, "rows": []}
        if (out / RESULTS).exists():
            try:
                held = load_results(out / RESULTS)
            except FormatError:
                raise
            except UserError as error:
                reporter.line(f"{error}; it is made again from the steps")
        now = environment(fabric)
        before = held.get("environment")
        self._before = before or now
        self._sessions = [before, now] if before else [now]
        self._rows = {(row["arm"], row["seed"]): row for row in held["rows"]}
        self._done: dict[tuple[str, int], dict[str, dict[str, Any]]] = {}
        self.failed: list[str] = []
        self.content: dict[str, Any] = {"format": FORMAT, "study": study, "environment": self._before, "rows": []}

    def add_phase(self, run: TrainingRun, phase: dict[str, Any]) -> None:
        """Take in what an arm's next phase gave, write everything, and say it."""
        arm = run.config
        done = self._done.setdefault((arm.name, arm.seed), {})
        done[phase["name"]] = phase
        self._renew(run, phases=[*done.values(), *self._phases_before(arm)[len(done) :]])
        seed = f", seed {arm.seed}" if len({other.seed for other in self.arms}) > 1 else ""
        top1s = f"best {phase['best_top1']:4.1f} %, mean {phase['mean_top1']:4.1f} %"
        took = f"took {duration(phase['seconds'])}"
        self.reporter.line(f"{arm.name}{seed}: {phase['name']:9s} {top1s}, {took}{self.reporter.eta()}")

    def add_failure(self, run: TrainingRun, reason: str) -> None:
        """Note that an arm ended early, and why; what it had done stays."""
        arm = run.config
        done = self._done.get((arm.name, arm.seed), {})
        self._renew(run, phases=[*done.values(), *self._phases_before(arm)[len(done) :]], error=reason)
        self.failed.append(arm.name)
        self.reporter.line(f"{arm.name}, seed {arm.seed}, failed: {reason}")

    def _phases_before(self, arm: RunConfig) -> list[dict[str, Any]]:
        """What the file already held of an arm."""
        return self._rows.get((arm.name, arm.seed), {}).get("phases") or []

    def _renew(self, run: TrainingRun, **more: Any) -> None:
        arm = run.config
        self._rows[arm.name, arm.seed] = {
            "arm": arm.name,
            "supernet": supernet_label(arm.supernet),
            "teacher": describe_reference(arm.recipe.teacher),
            "seed": arm.seed,
            "steps": [planned.name for planned in run.plan],
            **more,
        }
        keys = [(other.name, other.seed) for other in self.arms]
        self.content["rows"] = [self._rows[key] for key in keys if key in self._rows]
        # A session that only finds finished work has measured nothing.
        self.content["environment"] = joined_environments(self._sessions if self.reporter.worked else [self._before])
        if self.fabric.is_global_zero:
            write_json(self.out / RESULTS, self.content)
