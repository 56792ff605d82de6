"""The searched space (the unlocked space, and the resolution as one more dimension) and its exact costs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import UserError
from ..evaluation.cost import CostModel
from ..evaluation.encoding import Encoding
from ..evaluation.latency_table import LatencyModel
from ..models.supernet import Supernet
from ..searchers.problem import Metrics
from ..space import Arch, ElasticDim, SearchSpace

RESOLUTION = "resolution"
HEIGHT = "height"


def searched_space(space: SearchSpace, resolutions: Sequence[int]) -> SearchSpace:
    """A space with the resolution of the images as its last dimension.

    Raises:
        UserError: The space already has a dimension of that name.
    """
    if RESOLUTION in space:
        raise UserError(f"a supernet must not have a dimension {RESOLUTION!r} of its own: the search adds it")
    return SearchSpace((*space.dims, ElasticDim(RESOLUTION, tuple(sorted(set(resolutions))))), space.unlocked)


def split_arch(arch: Arch) -> tuple[Arch, int]:
    """Split an architecture of the searched space into the supernet's architecture and the resolution."""
    return {name: value for name, value in arch.items() if name != RESOLUTION}, arch[RESOLUTION]


class Costs:
    """The metrics of encoded architectures that need no prediction from samples.

    Args:
        net: The supernet.
        encoding: The encoding of the searched space.
        latency: Predicts "latency_ms"; None omits it.
    """

    def __init__(self, net: Supernet, encoding: Encoding, latency: LatencyModel | None = None):
        self._model, self._encoding, self._latency = CostModel(net, encoding), encoding, latency
        self._column = encoding.column[RESOLUTION, 0]
        self._resolutions = np.array(encoding.choices(RESOLUTION))

    def __call__(self, codes: np.ndarray) -> Metrics:
        """Arrays [N] named "macs", "params", "memory_mib" and, with a latency table, "latency_ms"."""
        found: Metrics = {}
        resolutions = self._resolutions[codes[:, self._column]]
        for resolution in self._resolutions if len(codes) else []:
            rows = resolutions == resolution
            if not rows.any() and found:
                continue
            values: Metrics = self._model.costs(codes[rows], int(resolution))
            if self._latency is not None:
                values["latency_ms"] = self._latency.predict(codes[rows], int(resolution))
            for name, value in values.items():
                found.setdefault(name, np.zeros(len(codes), dtype=value.dtype))[rows] = value
        return found

    def until_exit(self, codes: np.ndarray) -> np.ndarray:
        """MACs [N, exits] until an image leaves at each unlocked exit, with all earlier exits; needs early exits."""
        column = self._encoding.column[HEIGHT, 0]
        heights = range(len(self._encoding.choices(HEIGHT)))
        variants = [np.where(np.arange(codes.shape[1]) == column, height, codes) for height in heights]
        macs = np.stack([self(variant)["macs"] for variant in variants], axis=1)
        heads = np.stack([self._exit_macs(variant) for variant in variants], axis=1)
        cumulative: np.ndarray = macs + np.cumsum(heads, axis=1) - heads
        return cumulative

    def _exit_macs(self, codes: np.ndarray) -> np.ndarray:
        resolutions = self._resolutions[codes[:, self._column]]
        macs = np.zeros(len(codes), dtype=np.int64)
        for resolution in np.unique(resolutions):
            rows = resolutions == resolution
            macs[rows] = self._model.exit_macs(codes[rows], int(resolution))
        return macs
