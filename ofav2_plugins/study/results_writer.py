"""Writes the results of a study to results.json as they arrive: one row per arm and seed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from lightning_fabric import Fabric

from ..errors import RunError, UserError
from ..execution.provenance import environment
from ..execution.training_run import TrainingRun
from ..models.spec import supernet_label
from ..plugin import describe_reference
from ..training.run_config import RunConfig
from ..utils.files import write_record
from ..utils.progress import Reporter, duration
from .results import FORMAT, RESULTS, FormatError, joined_environments, load_results

WRITING_SHARE = 0.1
"""Maximum fraction of the total time for writing intermediate results."""


class StudyResults:
    """The content of `results.json`; rows of an earlier session are kept until they are replaced.

    Args:
        runs: All runs of the study, in order.
        out: The run folder.
        fabric: The devices and processes.
        study: The study's description, for the results and the report.
        reporter: Prints a line for every phase.
        measured_elsewhere: Whether workers may run on other machines; `add_environment` records those.

    Raises:
        FormatError: The folder's results were written by another version; they are left unchanged.
    """

    def __init__(
        self,
        runs: Sequence[TrainingRun],
        out: Path,
        fabric: Fabric,
        study: dict[str, Any],
        reporter: Reporter,
        measured_elsewhere: bool = False,
    ):
        self.configs, self.out, self.fabric, self.reporter = [run.config for run in runs], out, fabric, reporter
        earlier = self._earlier()
        now, before = environment(fabric), earlier.get("environment")
        self._before = before or now
        self._sessions = [*([before] if before else []), *([] if measured_elsewhere else [now])]
        self._measured_elsewhere = measured_elsewhere
        self._rows = {(row["arm"], row.get("seed")): row for row in earlier["rows"]}
        self._done: dict[tuple[str, int], dict[str, dict[str, Any]]] = {}
        self._next_write = 0.0
        self.failed: list[str] = []
        self.content: dict[str, Any] = {"format": FORMAT, "study": study, "environment": self._before, "rows": []}

    def _earlier(self) -> dict[str, Any]:
        """The results of an earlier session; empty if they are damaged."""
        if (self.out / RESULTS).exists():
            try:
                return load_results(self.out / RESULTS, warn=_reject)
            except FormatError:
                raise
            except UserError as error:
                self.reporter.line(f"{error}; it is rebuilt from the finished steps")
        return {"rows": []}

    def add_environment(self, environment: dict[str, Any]) -> None:
        """Add the machine of a worker to the environment of the results, unless all workers run on this machine."""
        known = [{**session, "date": None} for session in self._sessions]
        if self._measured_elsewhere and {**environment, "date": None} not in known:
            self._sessions.append(environment)

    def add_phase(self, run: TrainingRun, phase: dict[str, Any]) -> None:
        """Add the result of a run's next step and print it."""
        config = run.config
        done = self._done.setdefault((config.name, config.seed), {})
        done[phase["name"]] = phase
        self._replace(run, phases=[*done.values(), *self._phases_before(config)[len(done) :]])
        seed = f", seed {config.seed}" if len({other.seed for other in self.configs}) > 1 else ""
        top1s = f"best {phase['best_top1']:4.1f} %, mean {phase['mean_top1']:4.1f} %"
        took = f"took {duration(phase['seconds'])}"
        self.reporter.line(f"{config.name}{seed}: {phase['name']:9s} {top1s}, {took}{self.reporter.eta()}")

    def add_failure(self, run: TrainingRun, reason: str) -> None:
        """Record a failed run and the reason; its finished steps are kept."""
        config = run.config
        done = self._done.get((config.name, config.seed), {})
        self._replace(run, phases=[*done.values(), *self._phases_before(config)[len(done) :]], error=reason)
        self.failed.append(config.name)
        self.reporter.line(f"{config.name}, seed {config.seed}, failed: {reason}")

    def row(self, config: RunConfig) -> dict[str, Any]:
        """The row of a run; empty if it has none yet."""
        row: dict[str, Any] = self._rows.get((config.name, config.seed), {})
        return row

    def add_search(self, config: RunConfig, found: dict[str, Any]) -> None:
        """Add the search result of a finished run, or {"error": reason}."""
        self.row(config)["search"] = found
        if "error" in found:
            self.failed.append(config.name)
        self.write()

    def write(self) -> None:
        """Write results.json."""
        if self.fabric.is_global_zero and self.content["rows"]:
            started = time.monotonic()
            write_record(self.out / RESULTS, self.content)
            ended = time.monotonic()
            self._next_write = ended + (ended - started) / WRITING_SHARE

    def _phases_before(self, config: RunConfig) -> list[dict[str, Any]]:
        """The phases of a run in the results of an earlier session."""
        return self._rows.get((config.name, config.seed), {}).get("phases") or []

    def _replace(self, run: TrainingRun, **more: Any) -> None:
        config = run.config
        self._rows[config.name, config.seed] = {
            "arm": config.name,
            "supernet": supernet_label(config.supernet),
            "teacher": describe_reference(config.recipe.teacher),
            "seed": config.seed,
            "steps": [planned.name for planned in run.plan],
            **more,
        }
        keys = [(other.name, other.seed) for other in self.configs]
        self.content["rows"] = [self._rows[key] for key in keys if key in self._rows]
        # A session that only loads finished steps measures nothing.
        self.content["environment"] = joined_environments(self._sessions if self.reporter.worked else [self._before])
        if time.monotonic() >= self._next_write:
            self.write()


def _reject(problem: str) -> NoReturn:
    raise RunError(problem)
