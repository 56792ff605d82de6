"""Runs as actors of a Ray cluster (https://docs.ray.io), with CPU, GPU and memory requirements.

If a worker or its node dies, another worker continues the run from its last checkpoint. Without a shared file system,
checkpoints and finished steps are exchanged through the URL `storage`.
"""

from __future__ import annotations

import os
import queue
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from ..errors import RunError, UserError, error_message
from ..execution.run_folder import RUN_FILE, working_in
from ..execution.training_run import TrainingRun
from ..training.context import RunContext
from ..utils.signals import StopRequest
from .base import Executor, Item, Result, ResultSink, RunSetup
from .messages import Failed, Line, Message, PhaseFinished, Returned
from .ray_cluster import GIB, import_ray, shortage
from .ray_pool import map_on_ray
from .scheduling import POLL_SECONDS, ActiveRun, Schedule
from .storage import StepStorage, local_copy
from .worker import RunTask, execute_run

UPLOAD_SECONDS = 60
"""Time limit for a failed worker to upload its checkpoints."""

CONNECT_SECONDS = 10
"""Time limit for a connection to the address of a cluster."""

REASON_CHARACTERS = 300
"""Length to which Ray's explanations of a worker's death are cut."""


class Ray(Executor):
    """Runs in parallel on the machines of a Ray cluster.

    Args:
        address: Address of the cluster, or "auto" to find a running one; None starts Ray on this machine.
        cpus: CPUs that each run reserves (at least one per thread); also its default number of threads.
        gpus: GPUs that each run reserves; with a fraction, runs share a GPU.
        memory_gib: Memory that each run reserves; None reserves none.
        workers: Largest number of runs at the same time; None for no limit other than the cluster's resources.
        storage: URL through which step folders are exchanged; None if all machines share the run folder.
        storage_seconds: Seconds between two uploads of new checkpoints.
        retries: How many times a run is continued after its worker or node has died.
    """

    remote = True

    def __init__(
        self,
        address: str | None = None,
        cpus: int = 1,
        gpus: float = 0,
        memory_gib: float | None = None,
        workers: int | None = None,
        storage: str | None = None,
        storage_seconds: float = 10,
        retries: int = 3,
    ):
        for name, value, least in (("cpus", cpus, 1), ("gpus", gpus, 0), ("retries", retries, 0)):
            if not value >= least:
                raise ValueError(f"{name} must be at least {least}, but got {value}")
        for name, given in (("memory_gib", memory_gib), ("workers", workers), ("storage_seconds", storage_seconds)):
            if given is not None and not given > 0:
                raise ValueError(f"{name} must be above 0, but got {given}")
        self.address, self.cpus, self.gpus, self.memory_gib = address, cpus, gpus, memory_gib
        self.workers, self.retries = workers, retries
        self.storage, self.storage_seconds = storage, storage_seconds
        self._connected = False

    def check(self) -> None:
        ray = import_ray()
        if self.storage is not None:
            StepStorage(self.storage).check()
        _check_address(self.address)
        if ray.is_initialized():
            return
        try:
            ray.init(self.address or "local", log_to_driver=False, logging_level="ERROR", **self._local_options())
        except ConnectionError as error:
            raise UserError(
                f"no Ray cluster at --address {self.address}; start one with `ray start --head`, or set "
                f"RAY_AUTH_MODE=token if it was started with an authentication token ({error})"
            ) from error
        except Exception as error:  # incompatible versions of Ray or Python, a wrong address
            raise UserError(f"Ray cannot be used: {error_message(error)}") from error
        self._connected = True

    def _local_options(self) -> dict[str, Any]:
        return {} if self.address or os.environ.get("RAY_ADDRESS") else {"include_dashboard": False}

    def close(self) -> None:
        if self._connected:
            import_ray().shutdown()
            self._connected = False

    def threads(self, available: int) -> int:
        return self.cpus

    def device(self, chosen: str) -> str:
        return chosen if chosen != "auto" else ("cuda" if self.gpus else "cpu")

    def requirements(self, threads: int) -> dict[str, Any]:
        """Options of an actor: what it reserves, and the environment variables of its process."""
        reserved = {"num_cpus": max(self.cpus, threads), "num_gpus": self.gpus}
        if self.memory_gib is not None:
            reserved["memory"] = round(self.memory_gib * GIB)
        return {**reserved, "runtime_env": {"env_vars": {"OMP_NUM_THREADS": str(threads)}}}

    def execute(self, runs: Sequence[TrainingRun], results: ResultSink, context: RunContext, setup: RunSetup) -> None:
        backend = RayBackend(self, setup.absolute())
        if backend.storage is not None:
            backend.storage.offer([folder for run in runs for folder in run.folders.values()])
        self._warn(setup.threads, context.reporter.line)
        Schedule(runs, results, context, backend).execute()

    def map(
        self,
        make: Callable[[], Callable[[Item], Result]],
        items: Sequence[Item],
        threads: int,
        stop: StopRequest,
        say: Callable[[str], None],
    ) -> Iterator[tuple[Item, Result]]:
        self._warn(threads, say)
        wanted = self.requirements(threads)
        workers = self.workers or max(1, int(import_ray().cluster_resources().get("CPU", 1) // wanted["num_cpus"]))
        return map_on_ray(make, items, min(workers, len(items)), threads, wanted, stop)

    def _warn(self, threads: int, say: Callable[[str], None]) -> None:
        """Say so if no machine has what a worker reserves. That is no error, because one may still join."""
        if line := shortage(self.requirements(threads)):
            say(line)


class RunActor:
    """The worker: executes one run in a thread, and answers calls in the meantime.

    Args:
        task: The run.
        storage: URL of the storage; None if the run folder is shared.
        storage_seconds: Seconds between two uploads of new checkpoints.
    """

    def __init__(self, task: RunTask, storage: str | None, storage_seconds: float):
        self.task, self.storage, self.storage_seconds = task, storage, storage_seconds
        self.stop_request, self.outbox = StopRequest(), queue.SimpleQueue[Message]()

    def run(self) -> None:
        """Execute the run; returns when it has ended or saved."""
        try:
            with ExitStack() as stack:
                task, push = self._prepare(stack)
                execute_run(task, self.outbox.put, self.stop_request, push)
        except KeyboardInterrupt:
            pass  # requested by the first process, which drops later messages
        except Exception as error:
            self.outbox.put(Failed(error_message(error)))

    def _prepare(self, stack: ExitStack) -> tuple[RunTask, Callable[[], None]]:
        """The task in a folder of this machine, and the function that uploads finished steps."""
        task, out = self.task, self.task.setup.out
        if self.storage is None:
            if not (out / RUN_FILE).exists():
                raise RunError(
                    f"machine {socket.gethostname()} cannot access the run folder {out}: put it on a file system that "
                    "all machines share, or give a URL with --storage"
                )
            stack.enter_context(working_in(out))
            return task, lambda: None
        local, storage = local_copy(self.storage), StepStorage(self.storage)
        folders = [local / "steps" / name for name in task.steps]
        for folder in folders:
            storage.fetch(folder)
        stack.enter_context(storage.pushing(folders, self.storage_seconds, self._say))
        return replace(task, setup=replace(task.setup, out=local)), lambda: storage.push_all(folders)

    def _say(self, text: str) -> None:
        self.outbox.put(Line(text))

    def take(self, seconds: float) -> list[Message]:
        """The messages since the last call; waits for the first one."""
        try:
            messages = [self.outbox.get(timeout=seconds)]
        except queue.Empty:
            return []
        while not self.outbox.empty():
            messages.append(self.outbox.get())
        return messages

    def stop(self) -> None:
        """Ask the run to save and end."""
        self.stop_request.requested = True


class ActiveActor(ActiveRun):
    """An actor that executes a run.

    Args:
        run: The run.
        actor: Ray's handle.
    """

    def __init__(self, run: TrainingRun, actor: Any):
        super().__init__(run)
        self.actor = actor
        self.started = False
        """Whether the cluster has started the worker."""
        self.finished = actor.run.remote()
        self.next_messages = actor.take.remote(POLL_SECONDS)


class RayBackend:
    """Starts and stops the actors.

    Args:
        executor: The requirements of a run.
        setup: The inputs of the workers.
    """

    def __init__(self, executor: Ray, setup: RunSetup):
        self.ray, self.executor, self.setup = import_ray(), executor, setup
        self.storage = StepStorage(executor.storage) if executor.storage is not None else None
        options = {"max_restarts": 0, "max_concurrency": 3, **executor.requirements(setup.threads)}
        self._actor_class = self.ray.remote(**options)(RunActor)
        self._deaths: dict[int, int] = {}

    def start(self, run: TrainingRun, active: Sequence[ActiveActor]) -> ActiveActor | None:
        if self.executor.workers is not None and len(active) >= self.executor.workers:
            return None
        task, executor = RunTask.of(run, self.setup), self.executor
        return ActiveActor(run, self._actor_class.remote(task, executor.storage, executor.storage_seconds))

    def poll(self, active: Sequence[ActiveActor]) -> Iterator[tuple[ActiveActor, Message]]:
        by_reference = {actor.next_messages: actor for actor in active}
        ready, _ = self.ray.wait(list(by_reference), num_returns=1, timeout=POLL_SECONDS)
        for reference in ready:
            actor = by_reference[reference]
            try:
                messages = self.ray.get(reference)
            except self.ray.exceptions.RayError as error:
                yield actor, self._after_death(actor, error)
                continue
            actor.started = True
            actor.next_messages = actor.actor.take.remote(POLL_SECONDS)
            for message in messages:
                yield actor, self._with_files(actor, message)
                if actor.ended:
                    break
        for actor in active:
            if actor.ended:
                self.ray.wait([actor.finished], timeout=UPLOAD_SECONDS)
                self.ray.kill(actor.actor)

    def _with_files(self, actor: ActiveActor, message: Message) -> Message:
        """The message, after the files of a finished step are fetched; a failure if they cannot be read."""
        if self.storage is not None and isinstance(message, PhaseFinished):
            try:
                self.storage.fetch(actor.run.folders[message.phase["name"]])
            except UserError as error:
                actor.actor.stop.remote()
                return Failed(str(error))
        return message

    def _after_death(self, actor: ActiveActor, error: Exception) -> Message:
        exceptions = self.ray.exceptions
        if isinstance(error, exceptions.RayActorError) and error.actor_init_failed:
            return Failed(f"its worker cannot be started: {str(error).splitlines()[-1]}")
        if isinstance(error, (exceptions.RuntimeEnvSetupError, exceptions.ActorUnschedulableError)):
            return Failed(f"its worker cannot be started: {error_message(error)}")
        deaths = self._deaths[id(actor.run)] = self._deaths.get(id(actor.run), 0) + 1
        lines = [line for line in str(error).splitlines() if not line.startswith("\t")]  # without Ray's identifiers
        reason = " ".join(" ".join(lines).split())[:REASON_CHARACTERS]
        if deaths > self.executor.retries:
            return Failed(f"its worker died {deaths} times; the last error was: {reason}")
        return Returned(f"its worker or node died; another one continues from the last checkpoint ({reason})")

    def stop(self, active: Sequence[ActiveActor]) -> None:
        started = [actor for actor in active if actor.started]
        for actor in started:
            actor.actor.stop.remote()
        waiting = [actor.finished for actor in started]
        while waiting:  # in short intervals, so that a second Ctrl-C is noticed
            _, waiting = self.ray.wait(waiting, num_returns=len(waiting), timeout=POLL_SECONDS)
        self.kill(active)

    def kill(self, active: Sequence[ActiveActor]) -> None:
        for actor in active:
            self.ray.kill(actor.actor)


def _check_address(address: str | None) -> None:
    """Raise UserError if nothing listens at `host:port`; Ray itself would try for minutes."""
    host, _, port = (address or "").rpartition(":")
    if not host or "/" in host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"no Ray cluster at --address {address}; start one with `ray start --head` ({error})"
        ) from error
