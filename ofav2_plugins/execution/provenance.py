"""The provenance of results: versions of the code, device, precision, machine."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from .. import __version__, registry


@functools.cache
def code_versions() -> dict[str, str]:
    """Versions of the code that results depend on; of this package and of plugins with a hash of the source."""
    digest = hashlib.blake2b(digest_size=4)
    folder = Path(__file__).parent.parent
    for path in sorted([*folder.rglob("*.py"), *folder.rglob("*.yaml")]):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    sources = registry.source_digests()
    plugins = {name: f"{version} ({sources[name]})" for name, version in registry.distributions().items()}
    return {
        **plugins,
        "ofav2-plugins": f"{__version__} ({digest.hexdigest()})",
        "ofa": metadata.version("ofa"),
        "torch": torch.__version__,
    }


def current_provenance(fabric: Fabric) -> dict[str, str]:
    """Versions, device, precision, processes and threads; results may differ if any of them differs."""
    return {
        **code_versions(),
        "device": fabric.device.type,
        "precision": fabric.strategy.precision.precision,
        "processes": str(fabric.world_size),
        "threads": str(torch.get_num_threads()),
    }


def environment(fabric: Fabric) -> dict[str, Any]:
    """The machine and the versions that a result was measured with."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S"),
        "machine": platform.machine(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": _device_name(fabric.device),
        "processes": fabric.world_size,
        "precision": fabric.strategy.precision.precision,
        "system": platform.system(),
        "python": platform.python_version(),
        **code_versions(),
    }


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
