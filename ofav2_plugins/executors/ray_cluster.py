"""The machines of a Ray cluster, and whether one of them has what a worker reserves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from ..errors import UserError

GIB = 2**30

RESOURCES = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}
"""Option of an actor -> resource of a machine."""

SHOWN = 4
"""Largest number of kinds of machines that a message lists."""


def import_ray() -> Any:
    """The package `ray`. Raises UserError with the remedy if it is not installed."""
    try:
        import ray
    except ImportError as error:
        raise UserError("executor 'ray' needs Ray: pip install 'ofav2-plugins[ray]'") from error
    return ray


def shortage(requirements: Mapping[str, Any]) -> str:
    """A line for the user if no machine has what a worker reserves; "" if there is one.

    Args:
        requirements: The options of the worker's actor.
    """
    wanted = {name: requirements.get(option, 0) for option, name in RESOURCES.items()}
    machines: list[Mapping[str, float]] = [node["Resources"] for node in import_ray().nodes() if node["Alive"]]
    if any(all(machine.get(name, 0) >= amount for name, amount in wanted.items()) for machine in machines):
        return ""
    kinds = Counter(map(_amounts, machines)).most_common()
    found = "; ".join(f"{n} with {kind}" for kind, n in kinds[:SHOWN]) + ("; ..." if len(kinds) > SHOWN else "")
    return (
        f"no machine of the Ray cluster has the {_amounts(wanted)} that each worker reserves; it consists of "
        f"{found or 'no machine'}; waiting until one joins (Ctrl-C stops; executor.cpus, executor.gpus and --memory "
        "reserve less)"
    )


def _amounts(resources: Mapping[str, float]) -> str:
    cpus, gpus, memory = (resources.get(name, 0) for name in RESOURCES.values())
    gib = memory / GIB
    return f"{cpus:g} CPUs, {gpus:g} GPUs and {gib:.{1 if gib < 10 else 0}f} GiB"
