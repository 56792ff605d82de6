"""Contract test of executors."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from ..errors import UserError
from ..execution.run_folder import RUN_FILE
from ..execution.training_run import TrainingRun, load_data
from ..executors.base import Executor, RunSetup
from ..recipes.schema import Recipe
from ..training.context import LoggingOptions, RunContext
from ..training.run_config import RunConfig
from ..utils.distributed import make_fabric
from ..utils.files import write_json
from ..utils.progress import Reporter
from ..utils.signals import StopRequest

DATASET = "fashion-mini"

RECIPE: dict[str, Any] = {
    "width_mult": 0.25,
    "resolutions": [16],
    "batch_size": 512,
    "evaluation": {"bn_images": 32, "selection_draws": 1, "max_subnets": 1, "final_trunks": 1, "batch_size": 500},
    "phases": {"full": {"epochs": 1, "lr": 0.05}},
}
"""Takes less than a second."""


@dataclass
class _Results:
    """Collects the reports of an executor."""

    out: Path
    phases: dict[str, list[str]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def add_environment(self, environment: dict[str, Any]) -> None:
        assert "torch" in environment

    def add_phase(self, run: TrainingRun, phase: dict[str, Any]) -> None:
        self.phases.setdefault(run.config.name, []).append(phase["name"])

    def add_failure(self, run: TrainingRun, reason: str) -> None:
        self.failures[run.config.name] = reason


def check_executor(plugin: Executor) -> None:
    """Check that it executes runs, two of which share their steps, and reports every step and every failure.

    An executor whose requirements are not installed must raise an error with the remedy instead.
    """
    try:
        plugin.check()
    except UserError as error:
        assert "install" in str(error), f"{plugin.name}: the error must contain the remedy, but got {error}"
        return
    try:
        with tempfile.TemporaryDirectory() as folder:
            _check_execution(plugin, Path(folder))
    finally:
        plugin.close()


def _check_execution(plugin: Executor, out: Path) -> None:
    fabric, setup = make_fabric("cpu"), RunSetup(DATASET, None, out, "cpu", "32-true", 1, LoggingOptions())
    write_json(out / RUN_FILE, {})  # workers identify the folder by this file
    recipe = Recipe.model_validate(RECIPE)
    broken = Recipe.model_validate({**RECIPE, "phases": {"full": {"epochs": 1, "lr": 1e30}}})  # the loss overflows
    data = load_data(DATASET, None, recipe.validation_fraction)
    runs = [
        TrainingRun(RunConfig(name, "SE_B", its_recipe, 0), data, out / "steps", fabric)
        for name, its_recipe in (("a", recipe), ("b", recipe), ("broken", broken))
    ]
    results, total = _Results(out), sum(run.work() for run in runs)
    context = RunContext(Reporter(Console(quiet=True), total), StopRequest(), LoggingOptions())
    plugin.execute(runs, results, context, setup)
    assert results.phases == {"a": ["full"], "b": ["full"]}, (
        f"{plugin.name} must report each finished step once, but reported {results.phases}"
    )
    assert list(results.failures) == ["broken"], (
        f"{plugin.name} must report the failure of one run, but reported {results.failures}"
    )
