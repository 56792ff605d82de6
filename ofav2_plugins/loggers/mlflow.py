"""Logger `mlflow`: settings, metrics and results in MLflow."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..errors import UserError
from .base import Logger, RunInfo, StepInfo

MAX_PARAM = 500
"""Characters of a parameter's value: the limit of older tracking servers."""

STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}


class MLflow(Logger):
    """One MLflow run for each run (arm and seed): settings as parameters, epochs and evaluations as metrics.

    A resumed run continues its MLflow run.

    Args:
        uri: The tracking server or store; None: MLflow's own default ($MLFLOW_TRACKING_URI).
        experiment: Name of the experiment; created if it does not exist.
    """

    def __init__(self, uri: str | None = None, experiment: str = "ofav2"):
        if not experiment:
            raise ValueError(f"experiment must be a name, but got {experiment!r}")
        self.uri, self.experiment = uri, experiment
        self._client: Any = None
        self._run, self._step, self._first = "", "", 0

    def check(self) -> None:
        self._connect()

    def run_started(self, run: RunInfo) -> None:
        self._client = self._connect()
        experiment = self._client.get_experiment_by_name(self.experiment)
        number = experiment.experiment_id if experiment else self._client.create_experiment(self.experiment)
        tags = {"ofav2.folder": str(run.folder.resolve()), "ofav2.arm": run.name, "ofav2.seed": str(run.seed)}
        query = " and ".join(f"tags.`{name}` = {json.dumps(value)}" for name, value in tags.items())
        found = self._client.search_runs([number], query, max_results=1)
        if found:
            self._run = found[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
            return
        name = f"{run.name}, seed {run.seed}"
        self._run = self._client.create_run(number, tags=tags, run_name=name).info.run_id
        for key, value in flat(run.settings).items():
            self._client.log_param(self._run, key, str(value)[:MAX_PARAM])

    def step_started(self, step: StepInfo) -> None:
        self._step = step.name

    def epoch_finished(self, record: Mapping[str, Any]) -> None:
        """Log every number of the record as `STEP/NAME`, by epoch."""
        self._log(self._step, record, record["epoch"])

    def evaluated(self, step: str, result: Mapping[str, Any]) -> None:
        """Log every number of the result as `STEP/NAME`."""
        self._log(step, result, 0)

    def run_finished(self, status: str) -> None:
        self._client.set_terminated(self._run, STATUS[status])

    def _log(self, step: str, numbers: Mapping[str, Any], at: int) -> None:
        for name, value in numbers.items():
            if isinstance(value, (int, float)) and name != "epoch":
                self._client.log_metric(self._run, f"{step}/{name}", value, step=at)

    def _connect(self) -> Any:
        try:
            from mlflow import MlflowClient
        except ImportError as error:
            raise UserError("logger 'mlflow' needs mlflow: pip install 'ofav2-plugins[mlflow]'") from error
        try:
            client = MlflowClient(tracking_uri=self.uri)
            client.search_experiments(max_results=1)
        except Exception as error:  # of many types: a wrong address, no connection, an unknown kind of store
            raise UserError(f"logger 'mlflow' cannot use {self.uri or 'its default store'}: {error}") from error
        return client


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings with dotted keys: {"recipe": {"lr": 1}} gives {"recipe.lr": 1}."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found
