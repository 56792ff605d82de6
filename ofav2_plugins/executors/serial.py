"""Running a study's arms in one process, one after the other; an arm that fails does not stop the others."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import Path

from ..errors import DiskError, ProcessGroupError, UserError, error_message
from ..execution.training_run import TrainingRun
from ..training.context import RunContext
from ..training.run_config import RunConfig
from ..utils.distributed import failing_together
from ..utils.files import write_atomically
from .base import ResultSink


def run_arms(runs: Sequence[TrainingRun], results: ResultSink, context: RunContext) -> None:
    """Run arms into `results`; finished steps are found and kept, arms that share a step compute it once.

    Args:
        runs: What to run. A single one that fails raises; of several, the others go on.
        results: Where it goes.
        context: Progress, stopping, saving.

    Raises:
        DiskError: The disk is full or not writable, for every arm.
        ProcessGroupError: Under torchrun, a process has failed where all of them must end.
    """
    for run in runs:
        try:
            with failing_together(run.fabric):
                for phase in run.run(context):
                    results.add_phase(run, phase)
        except (DiskError, ProcessGroupError):
            raise
        except (Exception, SystemExit) as error:
            if len(runs) == 1:
                raise
            results.add_failure(run, failure(run.config, error, results.out))


def failure(arm: RunConfig, error: BaseException, out: Path) -> str:
    """Why a run failed, in one line; the traceback of what may be a defect of a plugin is kept in a file."""
    message = error_message(error)
    if isinstance(error, UserError):
        return message
    name = "".join(c if c.isalnum() or c == "_" else "-" for c in f"{arm.name}-{arm.seed}")
    log = out / "logs" / f"{name}.txt"
    write_atomically(log, traceback.format_exc().encode())
    return f"{message} (traceback in {log.relative_to(out)})"
