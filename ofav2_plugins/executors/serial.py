"""One run after the other in this process, which may be one of several under torchrun."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ..errors import DiskError, ProcessGroupError
from ..execution.training_run import TrainingRun
from ..training.context import RunContext
from ..utils.distributed import failing_together
from ..utils.signals import StopRequest
from .base import Executor, Item, Result, ResultSink, RunSetup
from .worker import failure, record_failure


class Serial(Executor):
    """One run after the other, in this process."""

    in_process = True

    def execute(self, runs: Sequence[TrainingRun], results: ResultSink, context: RunContext, setup: RunSetup) -> None:
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
                record_failure(run, failure(error), results)

    def map(
        self,
        make: Callable[[], Callable[[Item], Result]],
        items: Sequence[Item],
        threads: int,
        stop: StopRequest,
        say: Callable[[str], None],
    ) -> Iterator[tuple[Item, Result]]:
        function = make()
        for item in items:
            if stop.requested:
                raise KeyboardInterrupt
            yield item, function(item)
