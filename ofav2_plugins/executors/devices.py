"""Assigns the accelerators of this machine to workers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Accelerator:
    """A CUDA device of this machine.

    Args:
        name: As in `CUDA_VISIBLE_DEVICES`.
        memory_mib: Its total memory.
    """

    name: str
    memory_mib: float


def cuda_devices(environ: Mapping[str, str] = os.environ) -> list[Accelerator]:
    """The CUDA devices that this process can see."""
    count = torch.cuda.device_count()
    visible = [name.strip() for name in environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    names = visible[:count] if visible else list(map(str, range(count)))
    return [
        Accelerator(name, torch.cuda.get_device_properties(number).total_memory / 2**20)
        for number, name in enumerate(names)
    ]


def choose_accelerator(
    devices: Sequence[Accelerator], occupied: Sequence[str], largest_mib: float
) -> Accelerator | None:
    """The device with the fewest workers and enough memory for one more; None if there is no such device.

    Args:
        devices: The devices of this machine.
        occupied: The device of each active worker.
        largest_mib: The largest memory that a worker has used so far; 0 if it is not known yet, in which case a device
            gets only one worker.
    """
    workers = {device.name: occupied.count(device.name) for device in devices}
    free = [
        device
        for device in devices
        if workers[device.name] == 0
        or (largest_mib > 0 and (workers[device.name] + 1) * largest_mib <= device.memory_mib)
    ]
    return min(free, key=lambda device: workers[device.name], default=None)
