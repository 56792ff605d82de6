"""Several runs in parallel on this machine, each in its own process, within a memory limit.

Only the first process writes results; workers write their step folders. On a machine with several CUDA devices, each
worker gets the device with the fewest workers.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait

from ..errors import UserError
from ..execution.run_folder import working_in
from ..execution.training_run import TrainingRun
from ..training.context import RunContext
from ..utils.memory import peak_memory_mib
from ..utils.signals import StopRequest, ignored, stop_on_signals
from .base import Executor, Item, Result, ResultSink, RunSetup
from .devices import Accelerator, choose_accelerator, cuda_devices
from .messages import Failed, Message, Returned
from .process_pool import map_in_processes
from .scheduling import POLL_SECONDS, ActiveRun, Schedule
from .worker import CPU, RunTask, execute_run


class Processes(Executor):
    """Several runs in parallel on this machine, each in its own process."""

    def __init__(self, workers: int = 2, memory_gib: float | None = None):
        if workers < 1:
            raise ValueError(f"workers must be at least 1, but got {workers}")
        self.workers, self.memory_gib = workers, memory_gib

    def check(self) -> None:
        least = 2 * peak_memory_mib(CPU) / 1024
        if self.memory_gib is not None and not self.memory_gib >= least:
            raise UserError(
                f"--memory must be at least {least:.1f} GiB here, for this process and one worker, but got "
                f"{self.memory_gib:g}"
            )

    def threads(self, available: int) -> int:
        return max(1, available // self.workers)

    def measuring_device(self, chosen: str) -> str:
        return "cpu"  # several processes on one accelerator do not measure faster than one

    def execute(self, runs: Sequence[TrainingRun], results: ResultSink, context: RunContext, setup: RunSetup) -> None:
        on_cuda = any(run.fabric.device.type == "cuda" for run in runs)
        backend = ProcessBackend(setup, self.workers, self.memory_gib, cuda_devices() if on_cuda else [])
        Schedule(runs, results, context, backend).execute()

    def map(
        self,
        make: Callable[[], Callable[[Item], Result]],
        items: Sequence[Item],
        threads: int,
        stop: StopRequest,
        say: Callable[[str], None],
    ) -> Iterator[tuple[Item, Result]]:
        return map_in_processes(make, items, self.workers, threads, stop)


class ActiveProcess(ActiveRun):
    """A process that executes a run.

    Args:
        run: The run.
        setup: The inputs of the worker.
        device: The CUDA device that it uses; None without one.
    """

    def __init__(self, run: TrainingRun, setup: RunSetup, device: str | None):
        super().__init__(run)
        self.device = device
        spawn = multiprocessing.get_context("spawn")
        self.connection, connection = spawn.Pipe(duplex=False)
        self.process = spawn.Process(target=_work, args=(connection, RunTask.of(run, setup)), daemon=True)
        variables = {"OMP_NUM_THREADS": str(setup.threads), **({"CUDA_VISIBLE_DEVICES": device} if device else {})}
        with _environment(variables), ignored(signal.SIGINT):
            self.process.start()  # Ctrl-C reaches the first process, which stops the worker with SIGTERM
        connection.close()

    def next_message(self) -> Message:
        """The next message; a failure if the process has died."""
        try:
            message: Message = self.connection.recv()
            return message
        except (EOFError, OSError):
            self.process.join()
            killed = ", possibly out of memory" if self.process.exitcode == -signal.SIGKILL else ""
            return Failed(f"its process ended with code {self.process.exitcode}{killed}")

    def stop(self) -> None:
        """Ask the process to save and exit; its later messages are dropped."""
        self.connection.close()
        self.process.terminate()


class ProcessBackend:
    """Starts and stops the processes.

    Args:
        setup: The inputs of the workers.
        workers: Largest number of processes.
        memory_gib: Limit for this process and all workers together. A worker is not started if it would exceed the
            limit, given the peaks so far; if the workers grow beyond it, the newest one saves and waits. None for no
            limit.
        devices: The CUDA devices of this machine; none if the runs use the CPU.
    """

    def __init__(self, setup: RunSetup, workers: int, memory_gib: float | None, devices: Sequence[Accelerator] = ()):
        self.setup, self.workers, self.memory_gib, self.devices = setup, workers, memory_gib, devices
        self.largest_mib, self.largest_on_device_mib = 0.0, 0.0

    def start(self, run: TrainingRun, active: Sequence[ActiveProcess]) -> ActiveProcess | None:
        if len(active) >= self.workers or not self._has_room(len(active)):
            return None
        device = None
        if self.devices:
            occupied = [process.device for process in active if process.device is not None]
            chosen = choose_accelerator(self.devices, occupied, self.largest_on_device_mib)
            if chosen is None:
                return None
            device = chosen.name
        return ActiveProcess(run, self.setup, device)

    def poll(self, active: Sequence[ActiveProcess]) -> Iterator[tuple[ActiveProcess, Message]]:
        ready = wait([process.connection for process in active], timeout=POLL_SECONDS)
        for process in active:
            if process.connection in ready:
                yield process, process.next_message()
                self.largest_mib = max(self.largest_mib, process.peak_mib)
                self.largest_on_device_mib = max(self.largest_on_device_mib, process.device_peak_mib)
        for process in active:
            if process.ended:
                process.process.join()
        alive = [process for process in active if not process.ended]
        if len(alive) > 1 and not self._within_limit(sum(process.peak_mib for process in alive)):
            self.stop(alive[-1:])
            yield alive[-1], Returned("waits, because all workers together exceeded --memory")

    def stop(self, active: Sequence[ActiveProcess]) -> None:
        for process in active:
            process.stop()
        for process in active:
            process.process.join()

    def kill(self, active: Sequence[ActiveProcess]) -> None:
        for process in active:
            process.process.kill()

    def _has_room(self, n_active: int) -> bool:
        """Whether one more worker stays within the limit; its memory is known once the first one has trained."""
        if self.memory_gib is None or n_active == 0:
            return True
        return self.largest_mib > 0 and self._within_limit((n_active + 1) * self.largest_mib)

    def _within_limit(self, workers_mib: float) -> bool:
        return self.memory_gib is None or peak_memory_mib(CPU) + workers_mib <= self.memory_gib * 1024


def _work(connection: Connection, task: RunTask) -> None:
    """The main function of a worker process."""
    with stop_on_signals(lambda _: None, (signal.SIGTERM,), patient=True) as stop:

        def send(message: Message) -> None:
            try:
                connection.send(message)
            except OSError:  # the first process has ended or no longer reads
                stop.requested = True

        try:
            with working_in(task.setup.out):
                _stop_with_parent(stop)
                execute_run(task, send, stop)
        except KeyboardInterrupt:
            send(Failed("it was stopped from outside; its finished work is saved"))
        except UserError as error:
            send(Failed(str(error)))


def _stop_with_parent(stop: StopRequest) -> None:
    """Stop as soon as the first process has ended for any reason."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    if not parent.is_alive():
        raise KeyboardInterrupt

    def watch() -> None:
        parent.join()
        stop.requested = True

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Environment variables for a process that is started within this context."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
