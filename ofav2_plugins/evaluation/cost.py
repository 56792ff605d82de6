"""Cost of a network (MACs, parameters, peak activation memory): counted on a network, or computed from a table.

The formula is exact because the static networks of a space consist of a few hundred distinct parts: each part is built
and counted once; the cost of an architecture is the sum of its parts (for memory, the peak over them).
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..models.layers.depthwise import reference_layers
from ..models.supernet import Supernet
from ..skips.base import Skip
from ..space import Arch
from .encoding import Encoding
from .liveness import peak_bytes
from .memory import Wiring, places, side_by_side
from .parts import Part, PartIndex, PartTable, layout

MIB = 2**20


@torch.no_grad()
def count_macs(net: nn.Module, resolution: int) -> int:
    """Multiply-accumulates of one image [1, 3, resolution, resolution]; torch's counter counts each as two."""
    return _flops(net, _image(net, resolution)) // 2


@torch.no_grad()
def count_memory(net: nn.Module, resolution: int) -> float:
    """Peak activation memory in MiB of one image in float32, as `liveness` defines it, measured on a network."""
    with reference_layers():
        return peak_bytes(net, _image(net, resolution))[0] / MIB


def _image(net: nn.Module, resolution: int) -> torch.Tensor:
    return torch.zeros(1, 3, resolution, resolution, device=next(net.parameters()).device)


def _flops(net: nn.Module, image: torch.Tensor) -> int:
    # The fast layers skip filter taps that only overlap padding; the cost is that of the exported network.
    with reference_layers(), FlopCounterMode(display=False) as counter:
        net(image)
    flops: int = counter.get_total_flops()
    return flops


@dataclass(frozen=True)
class Cost:
    """The cost of one image through an architecture.

    Args:
        macs: Multiply-accumulates, as torch's FLOP counter counts them (half of its FLOPs).
        params: Parameters of the static network.
        memory_mib: Peak activation memory in MiB, in float32 (see `liveness`).
    """

    macs: int
    params: int
    memory_mib: float


def cost(net: Supernet, arch: Arch, resolution: int) -> Cost:
    """The cost of an architecture's static network with one exit, without building it.

    The first call for a supernet and a resolution builds and counts its distinct parts (seconds); later ones take
    a tenth of a millisecond.

    Args:
        net: The supernet.
        arch: An architecture of its space; settings are completed as in `set_active_subnet`.
        resolution: Height and width of the image in pixels.

    Raises:
        ValueError: An entry of the architecture is wrong; the message gives the entry, its value and the allowed
            values.
    """
    model = _model(net)
    complete = arch if len(arch) == len(net.space.dims) else net.space.parse(arch, net.arch)
    found = model.costs(model.encoding.encode([complete]), resolution)
    return Cost(int(found["macs"][0]), int(found["params"][0]), float(found["memory_mib"][0]))


def costs(net: Supernet, archs: Sequence[Arch] | np.ndarray, resolution: int) -> dict[str, np.ndarray]:
    """The costs of many architectures: arrays [N] named "macs", "params" and "memory_mib".

    Args:
        net: The supernet.
        archs: Architectures, or their codes [N, G] in `Encoding(net.space)`.
        resolution: Height and width of the images in pixels.
    """
    model = _model(net)
    codes = archs if isinstance(archs, np.ndarray) else model.encoding.encode(archs)
    return model.costs(codes, resolution)


_models: weakref.WeakKeyDictionary[Supernet, CostModel] = weakref.WeakKeyDictionary()


def _model(net: Supernet) -> CostModel:
    if net not in _models:
        _models[net] = CostModel(net, Encoding(net.space))
    return _models[net]


class CostModel:
    """The costs of the architectures of a supernet, from its distinct parts.

    Args:
        net: The supernet; used only when a new resolution is counted.
        encoding: The encoding of the architectures; dimensions that the supernet does not have are ignored.
    """

    def __init__(self, net: Supernet, encoding: Encoding):
        self._net, self.encoding = weakref.ref(net), encoding
        self._layout = layout(net)
        self._index = PartIndex(encoding, self._layout.parts)
        self._places, self._exists = places(self._layout)
        self._tables: dict[int, _Table] = {}

    def costs(self, codes: np.ndarray, resolution: int) -> dict[str, np.ndarray]:
        """Arrays [N] named "macs", "params" and "memory_mib" for codes [N, G] at one resolution."""
        table = self._table(resolution)
        active = self.encoding.active(codes)
        present, variant = self._index(codes, active)
        return {
            "macs": np.where(present, table.flops[variant], 0).sum(axis=1) // 2,
            "params": np.where(present, table.params[variant], 0).sum(axis=1),
            "memory_mib": self._memory(table, present, variant) / MIB,
        }

    def exit_macs(self, codes: np.ndarray, resolution: int) -> np.ndarray:
        """MACs [N] of only the exit at which each architecture ends."""
        _, variant = self._index(codes, self.encoding.active(codes))
        macs: np.ndarray = self._table(resolution).flops[variant[:, -1]] // 2
        return macs

    def _table(self, resolution: int) -> _Table:
        if resolution not in self._tables:
            net = self._net()
            assert net is not None, "the supernet no longer exists"
            self._tables[resolution] = _Table(PartTable(net, self.encoding, resolution), net.skip)
        return self._tables[resolution]

    def _memory(self, table: _Table, present: np.ndarray, variant: np.ndarray) -> np.ndarray:
        """The largest live bytes [N] over all parts, in the order in which they run."""
        stem = len(self._layout.stem)
        sequential = np.maximum(table.freed[variant[:, :stem]].max(axis=1), table.freed[variant[:, -1]])
        exists, variants = present[:, self._places] & self._exists, variant[:, self._places]  # [N, S, B, M]
        outputs = table.outputs[variants]
        frees, keeps = side_by_side(exists, table.freed[variants], table.kept[variants], outputs)
        depth = exists.any(axis=3).sum(axis=2)
        stages = table.wiring.peak(depth, frees, keeps, table.inputs[variants[:, :, 0, 0]], outputs[:, :, 0, 0])
        peak: np.ndarray = np.maximum(sequential, stages.max(axis=1))
        return peak


class _Table:
    """The costs of every variant of every part at one resolution: arrays [V] in the order of `PartTable.variants`."""

    def __init__(self, parts: PartTable, skip: Skip):
        counted = {key: _count(part) for key, part in parts.distinct().items()}
        rows = np.array([counted[part.key] for variants in parts.variants for part in variants], dtype=np.int64)
        self.flops, self.params, self.freed, self.kept, self.inputs, self.outputs = rows.T
        self.wiring = Wiring(skip, max(len(stage) for stage in parts.layout.stages))


@torch.no_grad()
def _count(part: Part) -> tuple[int, ...]:
    image = torch.zeros(part.shape)
    flops = _flops(part.module, image)
    with reference_layers():
        freed, kept = peak_bytes(part.module, image)
        output = part.module(image)
    params = sum(parameter.numel() for parameter in part.module.parameters())
    return flops, params, freed, kept, image.nbytes, output.nbytes
