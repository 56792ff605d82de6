"""Contract test of loggers."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import MappingProxyType

from ..errors import UserError
from ..loggers.base import Logger, Loggers, RunInfo, StepInfo


def check_logger(plugin: Logger) -> None:
    """Check that it accepts the events of a run and its resumption, and that its measurements are finite numbers.

    A logger whose `check` raises a UserError (a library or a server is missing) is not checked further.
    """
    try:
        plugin.check()
    except UserError:
        return
    failures: list[str] = []
    loggers = Loggers([plugin], failures.append)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for epoch in range(2):
            _emit_session(loggers, folder, epoch)
    assert not failures, failures[0]


def _emit_session(loggers: Loggers, folder: Path, epoch: int) -> None:
    """Emit the events of a session that trains one of a step's two epochs, and measures the step after the second."""
    record = {"step": "full", "loss": 1.5, "lr": 0.1, "val_top1": 10.0, "seconds": 1.0, "images_per_second": None,
              "peak_memory_mib": 100.0}  # fmt: skip
    history = [{**record, "epoch": earlier} for earlier in range(epoch)]
    loggers.emit("run_started", RunInfo("an arm", 0, {"recipe": {"phases": {"full": {"epochs": 2}}}}, folder))
    loggers.emit("step_started", StepInfo("full", folder / "steps" / "full-0", 2, history))
    loggers.emit("epoch_started", epoch)
    measured = loggers.measurements()
    loggers.emit("epoch_finished", MappingProxyType({**measured, **record, "epoch": epoch}))
    loggers.emit("step_finished")
    if epoch == 1:
        loggers.emit("evaluated", "full", MappingProxyType({"name": "full", "best_top1": 10.0, "subnets": []}))
    loggers.emit("run_finished", "finished" if epoch else "stopped")
