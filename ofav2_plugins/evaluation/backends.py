"""Running a static network or a part of one for timing, with torch or ONNX Runtime."""

from __future__ import annotations

import io
import logging
import time
import warnings
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any

import numpy as np
import torch
from torch import nn

from ..errors import UserError
from ..models.batch_norm import fold_bn
from ..models.layers.accelerate import accelerate

BACKENDS = ("torch", "onnxruntime")
MIN_SECONDS = 0.02
"""Minimum time for which each network runs in every round."""

Run = Callable[[], object]


def check_backend(backend: str, device: str) -> None:
    """Raises UserError, with the remedy, for a backend that is unknown or cannot run here."""
    if backend not in BACKENDS:
        raise UserError(f"--backend must be one of {', '.join(BACKENDS)}, but got {backend!r}")
    if backend == "onnxruntime":
        if device != "cpu":
            raise UserError(f"--backend onnxruntime profiles the CPU only, but got --device {device}")
        try:
            import onnx  # noqa: F401
            import onnxruntime  # noqa: F401
        except ImportError as error:
            raise UserError(
                f"--backend onnxruntime needs onnx and onnxruntime, which cannot be imported ({error}); install "
                "them with: pip install 'ofav2-plugins[export]'"
            ) from error


def backend_version(backend: str) -> str:
    """The version of the library that runs the networks."""
    return metadata.version("torch" if backend == "torch" else "onnxruntime")


@torch.no_grad()
def prepared(net: nn.Module, shape: Sequence[int], backend: str, device: torch.device, threads: int) -> Run:
    """A function that runs a network once on an input of `shape`, with batch norms folded as in deployment.

    Args:
        net: A static network or a part, in evaluation mode; modified in place.
        shape: Of the input, the batch included.
        backend: One of `BACKENDS`.
        device: Device of torch.
        threads: CPU threads of ONNX Runtime; the caller sets those of torch.
    """
    if backend == "torch":
        net = accelerate(net.to(device))
        fold_bn(net)
        x = torch.randn(*shape, device=device).contiguous(memory_format=torch.channels_last)

        def run() -> object:
            with torch.inference_mode():
                y = net(x)
                return y if device.type == "cpu" else y.sum().item()  # a GPU works asynchronously: wait for the value

        return run
    session = _onnx_session(net, torch.randn(*shape), threads)
    feed = {session.get_inputs()[0].name: torch.randn(*shape).numpy()}
    return lambda: session.run(None, feed)


def _onnx_session(net: nn.Module, x: torch.Tensor, threads: int) -> Any:
    import onnxruntime

    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        # Ten times as fast as the exporter based on torch.export.
        torch.onnx.export(net, (x,), stream, dynamo=False)  # type: ignore[arg-type]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return onnxruntime.InferenceSession(stream.getvalue(), options, providers=["CPUExecutionProvider"])


class Stopwatch:
    """Times many networks in several rounds, so that a burst of other work does not affect only one of them.

    Args:
        one_thread: Whether runs use only the calling thread; its CPU time is then measured, which excludes the time of
            other processes.
        rounds: Number of rounds.
    """

    def __init__(self, one_thread: bool, rounds: int = 5):
        self.clock, self.rounds = time.thread_time if one_thread else time.perf_counter, rounds

    def time(self, runs: Sequence[Run], advance: Callable[[], None] = lambda: None) -> list[tuple[float, float]]:
        """The milliseconds of a run and their spread, for each network.

        The time is the 10th percentile of all runs, because other work on the machine can only add time. The spread is
        the distance between the 10th and the 90th percentile.
        """
        times: list[list[float]] = [[] for _ in runs]
        for _ in range(self.rounds):
            for run, found in zip(runs, times, strict=True):
                run()  # warms up the caches
                started = before = self.clock()
                while before - started < MIN_SECONDS:
                    run()
                    after = self.clock()
                    found.append(1e3 * (after - before))
                    before = after
                advance()
        low, high = np.array([np.percentile(found, (10, 90)) for found in times]).T
        return [(float(ms), float(spread)) for ms, spread in zip(low, high - low, strict=True)]
