"""Plugins by entry-point name. The only file that imports stevedore.

A plugin that cannot be imported, two plugins with one name, a name that nobody registered: each is an error that
names the plugin, its distribution, and what does exist.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

from stevedore import NamedExtensionManager

from .errors import UserError

BRANCHES = "ofav2.branches"
SKIPS = "ofav2.skips"
EXITS = "ofav2.exits"
PHASES = "ofav2.phases"
DISTILLATION = "ofav2.distillation"
TEACHERS = "ofav2.teachers"
DATASETS = "ofav2.datasets"
NAMESPACES = (BRANCHES, SKIPS, EXITS, PHASES, DISTILLATION, TEACHERS, DATASETS)


class PluginError(UserError):
    """A plugin is unknown, doubled, cannot be imported, or does not keep its namespace's contract."""


@dataclass(frozen=True)
class PluginInfo:
    """What `ofav2 plugins` prints of one plugin; `problem` is None where it loads."""

    namespace: str
    name: str
    distribution: str
    version: str
    target: str
    summary: str
    problem: str | None


def names(namespace: str) -> list[str]:
    """The registered names of a namespace, sorted, without importing any plugin."""
    return sorted({point.name for point in _entry_points(namespace)})


def load(namespace: str, name: str) -> Any:
    """A new instance of plugin `name`, checked against its namespace's base class.

    Raises:
        PluginError: The name is unknown or doubled, or the plugin cannot be imported, constructed, or is no
            subclass of the contract. Names the plugin, its distribution and target, and the registered names.
    """
    plugin = _load_class(namespace, name)
    try:
        instance = plugin()
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"plugin {name!r} of {namespace} ({plugin.__module__}.{plugin.__qualname__}) cannot be "
            f"constructed without arguments: {type(error).__name__}: {error}"
        ) from error
    instance.name = name
    return instance


def load_all(namespace: str, plugin_names: list[str] | tuple[str, ...] | None = None) -> dict[str, Any]:
    """Instances by name: those asked for (an empty list: none), or without a list all of a namespace."""
    return {name: load(namespace, name) for name in (names(namespace) if plugin_names is None else plugin_names)}


@contextmanager
def calling(namespace: str, name: str, what: str) -> Iterator[None]:
    """For code of plugin `name`: what it raises becomes a PluginError that says whose it is and in `what`."""
    try:
        yield
    except Exception as error:
        raise PluginError(f"plugin {name!r} of {namespace} fails in {what}: {type(error).__name__}: {error}") from error


def describe() -> list[PluginInfo]:
    """Every registered plugin with where it comes from and whether it loads; imports them all."""
    rows = []
    for namespace in NAMESPACES:
        for point in sorted(_entry_points(namespace), key=lambda p: p.name):
            summary, problem = "", None
            try:
                summary = (inspect.getdoc(type(load(namespace, point.name))) or "").partition("\n")[0]
            except PluginError as error:
                problem = str(error)
            dist = point.dist
            rows.append(
                PluginInfo(
                    namespace=namespace,
                    name=point.name,
                    distribution=dist.name if dist else "?",
                    version=dist.version if dist else "?",
                    target=point.value,
                    summary=summary,
                    problem=problem,
                )
            )
    return rows


def distributions() -> dict[str, str]:
    """Name and version of every distribution that registers a plugin."""
    found = (point.dist for namespace in NAMESPACES for point in _entry_points(namespace))
    return {dist.name: dist.version for dist in found if dist}


def _entry_points(namespace: str) -> list[importlib.metadata.EntryPoint]:
    # importlib lists one distribution twice where a checkout is both on sys.path and installed from it.
    unique = {}
    for point in importlib.metadata.entry_points(group=namespace):
        unique[point.name, point.value, point.dist.name if point.dist else ""] = point
    return list(unique.values())


def _origin(point: importlib.metadata.EntryPoint) -> str:
    dist = f"{point.dist.name} {point.dist.version}" if point.dist else "unknown distribution"
    return f"{dist}, {point.value}"


@functools.cache
def _load_class(namespace: str, name: str) -> type:
    points = [point for point in _entry_points(namespace) if point.name == name]
    if not points:
        raise PluginError(
            f"unknown plugin {name!r} in {namespace}; registered are: {', '.join(names(namespace)) or 'none'}"
        )
    if len(points) > 1:
        raise PluginError(
            f"two plugins are named {name!r} in {namespace}: {' and '.join(map(_origin, points))}; "
            "uninstall one or rename it"
        )
    where = f"plugin {name!r} of {namespace} ({_origin(points[0])})"

    def fail(_manager: Any, _point: Any, error: BaseException) -> NoReturn:
        raise PluginError(f"{where} cannot be imported: {type(error).__name__}: {error}") from error

    manager: NamedExtensionManager[type]
    try:
        manager = NamedExtensionManager(namespace, names=[name], on_load_failure_callback=fail)
    except (AssertionError, SystemExit) as error:  # stevedore lets these pass
        fail(None, None, error)
    plugin, contract = manager[name].plugin, _contract(namespace)
    if not (inspect.isclass(plugin) and issubclass(plugin, contract)):
        raise PluginError(
            f"{where} must be a subclass of {contract.__module__}.{contract.__name__}, but got {plugin!r}"
        )
    return plugin


def _contract(namespace: str) -> type:
    """The base class of a namespace, imported late: listing names needs no torch."""
    module, name = {
        BRANCHES: ("branches", "Branch"),
        SKIPS: ("skips", "Skip"),
        EXITS: ("exits", "Exits"),
        PHASES: ("phases", "Phase"),
        DISTILLATION: ("distillation", "Distillation"),
        TEACHERS: ("teachers", "Teacher"),
        DATASETS: ("data", "Dataset"),
    }[namespace]
    base = importlib.import_module(f"ofav2_plugins.{module}.base")
    return getattr(base, name)
