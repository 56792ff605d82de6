"""Measurement of a latency table: every distinct part of a space, then whole networks to check the sums."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls
from scipy.stats import kendalltau

from ..models.spec import supernet_label
from ..models.supernet import Supernet
from .backends import Stopwatch, backend_version, prepared
from .encoding import Encoding
from .latency_table import FORMAT, Correction, LatencyModel, LatencyTable, PartTime, Validation
from .parts import PartTable

CALIBRATION, VALIDATION = 25, 50
"""Number of whole networks to which a correction is fitted, and of others that validate it."""

TOLERATED = 10.0
"""Largest mean absolute percentage error at which the plain sums are not corrected."""


def machine(processor: str, device: str) -> dict[str, Any]:
    """The description of a machine in a latency table."""
    return {
        "processor": processor,
        "cpus": os.cpu_count(),
        "architecture": platform.machine(),
        "system": platform.system(),
        "device": device,
    }


class Profiler:
    """Measures the latency table of a supernet.

    Args:
        net: The supernet; its weights do not matter.
        encoding: The encoding of the architectures.
        resolutions: In pixels.
        backend: "torch" or "onnxruntime".
        device: Device of torch.
        threads: CPU threads.
        seed: Chooses the whole networks.
        rounds: Number of times that each part and network is timed.
    """

    def __init__(
        self,
        net: Supernet,
        encoding: Encoding,
        resolutions: tuple[int, ...],
        backend: str,
        device: torch.device,
        threads: int,
        seed: int = 0,
        rounds: int = 5,
    ):
        self.net, self.encoding, self.resolutions, self.backend = net, encoding, resolutions, backend
        self.device, self.threads = device, threads
        self._watch, self.rounds = Stopwatch(threads == 1 and device.type == "cpu", rounds), rounds
        self._parts = {}
        for resolution in resolutions:
            self._parts.update(PartTable(net, encoding, resolution).distinct())
        rng = np.random.default_rng(seed)
        n = CALIBRATION + VALIDATION
        self._codes = encoding.sample(n, rng)
        self._sizes = rng.choice(np.array(resolutions), size=n)

    @property
    def work(self) -> int:
        """The total number of timings."""
        return self.rounds * (len(self._parts) + len(self._codes))

    def measure(self, described: dict[str, Any], advance: Callable[[str], None] = lambda what: None) -> LatencyTable:
        """The table.

        Args:
            described: The machine, see `machine`.
            advance: Called after each timing with "parts" or "whole networks".
        """
        runs = [self._prepared(part.module, part.shape) for part in self._parts.values()]
        times = self._watch.time(runs, lambda: advance("parts"))
        parts = {key: PartTime(ms=ms, spread=s) for key, (ms, s) in zip(self._parts, times, strict=True)}
        whole = self._watch.time(
            [self._network(code, int(size)) for code, size in zip(self._codes, self._sizes, strict=True)],
            lambda: advance("whole networks"),
        )
        measured = np.array([ms for ms, _ in whole])
        table = LatencyTable(
            format=FORMAT,
            machine=described,
            backend=self.backend,
            version=backend_version(self.backend),
            device=self.device.type,
            threads=self.threads,
            supernet=supernet_label(self.net.spec),
            resolutions=list(self.resolutions),
            parts=parts,
            correction=Correction(),
            validation=Validation(networks=0, kendall_tau=0, mape=0, mape_of_sum=0, corrected=False),
            date=time.strftime("%Y-%m-%d %H:%M:%S"),
        )
        return self._validated(table, measured)

    def _prepared(self, module: torch.nn.Module, shape: tuple[int, ...]) -> Callable[[], object]:
        return prepared(module, shape, self.backend, self.device, self.threads)

    def _network(self, code: np.ndarray, resolution: int) -> Callable[[], object]:
        self.net.set_active_subnet(**self.encoding.decode(code[None])[0])
        static = self.net.get_active_subnet(preserve_weight=False).eval().float()
        return self._prepared(static, (1, 3, resolution, resolution))

    def _validated(self, table: LatencyTable, measured: np.ndarray) -> LatencyTable:
        """The table with its validation, and with a correction if the errors of the plain sums are too large."""
        sums, counts = self._sums(table)
        fit, test = slice(0, CALIBRATION), slice(CALIBRATION, None)
        correction = Correction()
        if mean_error(sums[fit], measured[fit]) > TOLERATED:
            correction = fit_correction(sums[fit], counts[fit], measured[fit])
        predicted = correction.apply(sums, counts)
        validation = Validation(
            networks=len(measured[test]),
            kendall_tau=float(kendalltau(predicted[test], measured[test]).statistic),
            mape=mean_error(predicted[test], measured[test]),
            mape_of_sum=mean_error(sums[test], measured[test]),
            corrected=correction != Correction(),
        )
        return table.model_copy(update={"correction": correction, "validation": validation})

    def _sums(self, table: LatencyTable) -> tuple[np.ndarray, np.ndarray]:
        model = LatencyModel(self.net, self.encoding, table)
        sums, counts = np.zeros(len(self._codes)), np.zeros(len(self._codes))
        for resolution in self.resolutions:
            rows = self._sizes == resolution
            sums[rows], counts[rows] = model.sums(self._codes[rows], resolution)
        return sums, counts


def mean_error(predicted: np.ndarray, measured: np.ndarray) -> float:
    """Mean absolute percentage error."""
    return float(100 * np.mean(np.abs(predicted - measured) / measured))


def fit_correction(sums: np.ndarray, counts: np.ndarray, measured: np.ndarray) -> Correction:
    """Fit the correction by non-negative least squares of the relative errors.

    The time of a single part includes the overhead of a call, which does not occur within a network, so `per_part` is
    at most 0.
    """
    design = np.stack([sums, -counts, np.ones_like(sums)], axis=1) / measured[:, None]
    factor, saved, constant = nnls(design, np.ones(len(measured)))[0]
    return Correction(factor=float(factor), per_part=float(-saved), constant=float(constant))
