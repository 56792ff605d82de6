"""Runs as jobs of Slurm, submitted by submitit (https://github.com/facebookincubator/submitit).

All machines must share the run folder: jobs write messages to files in it, which the first process reads. Shortly
before the time limit, a job saves its state and is queued again.
"""

from __future__ import annotations

import json
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from ..errors import UserError, error_message
from ..execution.run_folder import owner, working_in
from ..execution.training_run import TrainingRun
from ..training.context import RunContext
from ..utils.signals import StopRequest, stop_on_signals
from . import messages
from .base import Executor, ResultSink, RunSetup
from .messages import Ended, Failed, Message, Returned
from .scheduling import POLL_SECONDS, ActiveRun, Schedule
from .worker import RunTask, execute_run

STOP_SECONDS = 600
"""Time limit for jobs to notice a stop request and save."""


class Slurm(Executor):
    """Runs in parallel as jobs of Slurm.

    Args:
        cluster: "slurm"; "local" executes the jobs on this machine, "debug" in this process.
        cpus: CPUs of each job (at least one per thread); also its default number of threads.
        gpus: GPUs of each job.
        memory_gib: Memory of each job; None for Slurm's default.
        hours: Time limit of each job; a longer run is queued again.
        partition: Slurm's partition; None for the default.
        account: Slurm's account; None for the default.
        workers: Largest number of jobs of an array at the same time; None for no limit.
        requeues: How many times a run is queued again at the time limit.
        retries: How many times a run is submitted again after its job has died.
    """

    remote = True
    measures = False

    def __init__(
        self,
        cluster: Literal["slurm", "local", "debug"] = "slurm",
        cpus: int = 1,
        gpus: int = 0,
        memory_gib: float | None = None,
        hours: float = 24,
        partition: str | None = None,
        account: str | None = None,
        workers: int | None = None,
        requeues: int = 100,
        retries: int = 3,
    ):
        for name, value, least in (("cpus", cpus, 1), ("gpus", gpus, 0), ("requeues", requeues, 0)):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, but got {value}")
        for name, given in (("hours", hours), ("memory_gib", memory_gib), ("workers", workers)):
            if given is not None and not given > 0:
                raise ValueError(f"{name} must be above 0, but got {given}")
        self.cluster, self.cpus, self.gpus, self.memory_gib = cluster, cpus, gpus, memory_gib
        self.hours, self.partition, self.account = hours, partition, account
        self.workers, self.requeues, self.retries = workers, requeues, retries

    def check(self) -> None:
        _import_submitit()
        if self.cluster == "slurm" and shutil.which("sbatch") is None:
            raise UserError(
                "executor 'slurm' needs the command sbatch, which is not installed here: run on a login node of the "
                "cluster, or with --set executor.cluster=local"
            )

    def threads(self, available: int) -> int:
        return self.cpus

    def device(self, chosen: str) -> str:
        return chosen if chosen != "auto" else ("cuda" if self.gpus else "cpu")

    def execute(self, runs: Sequence[TrainingRun], results: ResultSink, context: RunContext, setup: RunSetup) -> None:
        Schedule(runs, results, context, SlurmBackend(self, setup.absolute())).execute()

    def submitter(self, folder: Path, threads: int) -> Any:
        """submitit's executor with the requirements of a run."""
        limits = {"slurm_max_num_timeout": self.requeues} if self.cluster == "slurm" else {}
        submitter = _import_submitit().AutoExecutor(folder, cluster=self.cluster, **limits)
        optional = {
            "mem_gb": self.memory_gib,
            "slurm_partition": self.partition,
            "slurm_account": self.account,
            "slurm_array_parallelism": self.workers,
        }
        submitter.update_parameters(
            name="ofav2",
            timeout_min=max(1, round(60 * self.hours)),
            cpus_per_task=max(self.cpus, threads),
            gpus_per_node=self.gpus,
            **{name: value for name, value in optional.items() if value is not None},
        )
        return submitter


def _import_submitit() -> Any:
    try:
        import submitit
    except ImportError as error:
        raise UserError("executor 'slurm' needs submitit: pip install 'ofav2-plugins[slurm]'") from error
    return submitit


class SlurmTask:
    """The callable that a job executes; submitit stores it in a file.

    Args:
        task: The run.
        file: The file of its messages; the job stops if a file of that name with the suffix .stop appears.
    """

    def __init__(self, task: RunTask, file: Path):
        self.task, self.file = task, file
        self.owner = owner(task.setup.out)

    @property
    def stop_file(self) -> Path:
        """The file with which the first process requests the job to stop."""
        return self.file.with_suffix(".stop")

    def must_stop(self) -> bool:
        """Whether the first process requests it, or another one has taken over the run folder."""
        return self.stop_file.exists() or owner(self.task.setup.out) != self.owner

    def __call__(self) -> None:
        if self.must_stop():  # since it was queued
            return
        at_limit = requeue = False
        with (
            open(self.file, "a", encoding="utf-8") as file,
            stop_on_signals(lambda _: None, (signal.SIGTERM,), patient=True) as stop,
        ):

            def on_limit(_signal: int, _frame: Any) -> None:
                nonlocal at_limit
                at_limit = stop.requested = True

            def send(message: Message) -> None:
                file.write(json.dumps({"type": type(message).__name__, **asdict(message)}) + "\n")
                file.flush()

            submitits_handler = signal.signal(signal.SIGUSR2, on_limit)
            try:
                self._watch(stop)
                with working_in(self.task.setup.out):
                    execute_run(self.task, send, stop)
            except KeyboardInterrupt:
                if self.must_stop():
                    send(Ended())
                elif at_limit:
                    requeue = True
                else:  # cancelled or preempted: the first process submits the run again
                    raise
            except UserError as error:
                send(Failed(str(error)))
            finally:
                signal.signal(signal.SIGUSR2, submitits_handler)
        if requeue:
            signal.raise_signal(signal.SIGUSR2)  # the state is saved; submitit queues the job again

    def _watch(self, stop: StopRequest) -> None:
        """Stop the run as soon as it must."""

        def watch() -> None:
            while not stop.requested:
                if self.must_stop():
                    stop.requested = True
                time.sleep(POLL_SECONDS)

        threading.Thread(target=watch, daemon=True).start()

    def checkpoint(self) -> Any:
        """Called by submitit: returns the task of the restarted job."""
        return _import_submitit().helpers.DelayedSubmission(self)


class ActiveJob(ActiveRun):
    """A job that executes a run.

    Args:
        run: The run.
        task: The task of the job.
    """

    def __init__(self, run: TrainingRun, task: SlurmTask):
        super().__init__(run)
        self.task = task
        self.job: Any = None
        """submitit's handle; None until the job is submitted."""
        self._position = 0

    def new_messages(self) -> list[Message]:
        """The messages since the last call."""
        if not self.task.file.exists():
            return []
        with open(self.task.file, "rb") as file:
            file.seek(self._position)
            complete, newline, _ = file.read().rpartition(b"\n")
        self._position += len(complete) + len(newline)
        found = map(json.loads, complete.splitlines())
        return [getattr(messages, fields.pop("type"))(**fields) for fields in found]

    def has_ended(self) -> bool:
        """Whether a new message is the last one."""
        return any(isinstance(message, (Ended, Failed)) for message in self.new_messages())

    def is_queued(self) -> bool:
        """Whether the job waits for its start, or for the next one after its time limit."""
        has_started = self.task.file.stat().st_size > 0
        return self.job.state in ("PENDING", "REQUEUED") or (self.job.state == "UNKNOWN" and not has_started)


class SlurmBackend:
    """Submits and stops the jobs.

    Args:
        executor: The requirements of a job.
        setup: The inputs of the workers.
    """

    def __init__(self, executor: Slurm, setup: RunSetup):
        self.executor, self.setup = executor, setup
        self.folder = setup.out / "slurm"
        self.folder.mkdir(exist_ok=True)
        self._submitter = executor.submitter(self.folder, setup.threads)
        self._deaths: dict[int, int] = {}
        self._number = len(list(self.folder.glob("*.messages")))

    def start(self, run: TrainingRun, active: Sequence[ActiveJob]) -> ActiveJob | None:
        if self.executor.workers is not None and len(active) >= self.executor.workers:
            return None
        self._number += 1
        file = self.folder / f"{self._number}.messages"
        file.touch()
        return ActiveJob(run, SlurmTask(RunTask.of(run, self.setup), file))

    def poll(self, active: Sequence[ActiveJob]) -> Iterator[tuple[ActiveJob, Message]]:
        new = [job for job in active if job.job is None]
        if new:
            with self._submitter.batch():  # one array
                for job in new:
                    job.job = self._submitter.submit(job.task)
        quiet = True
        for job in active:
            done = job.job.done()  # checked before its messages are read
            for message in job.new_messages():
                quiet = False
                yield job, message
            if done and not job.ended:
                yield job, self._after_death(job)
        if quiet:
            time.sleep(POLL_SECONDS)

    def _after_death(self, job: ActiveJob) -> Message:
        deaths = self._deaths[id(job.run)] = self._deaths.get(id(job.run), 0) + 1
        exception = job.job.exception()
        reason = f"job {job.job.job_id} died ({error_message(exception)[:200] if exception else job.job.state})"
        if deaths > self.executor.retries:
            return Failed(f"{reason} for the {deaths}th time; its log is {job.job.paths.stderr}")
        return Returned(f"{reason}; another one continues from the last checkpoint")

    def stop(self, active: Sequence[ActiveJob]) -> None:
        submitted = [job for job in active if job.job is not None]
        for job in submitted:
            job.task.stop_file.touch()
        if submitted:
            submitted[0].job.get_info(mode="force")  # updates all jobs: submitit's states may be minutes old
        waiting, deadline = submitted, time.monotonic() + STOP_SECONDS
        while waiting and time.monotonic() < deadline:
            waiting = [job for job in waiting if not (job.job.done() or job.is_queued() or job.has_ended())]
            if waiting:
                time.sleep(POLL_SECONDS)
        self.kill([job for job in submitted if job in waiting or job.is_queued()])

    def kill(self, active: Sequence[ActiveJob]) -> None:
        for job in active:
            if job.job is not None:
                job.job.cancel()
