"""Loads plugins by entry-point name. The only module that imports stevedore.

A plugin that cannot be imported, two plugins with one name, an unknown name and wrong settings are errors that name
the plugin, its distribution and the registered names.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from stevedore import NamedExtensionManager

from .errors import UserError, error_message
from .plugin import Plugin, PluginError, construct, describe_settings, parse_reference

BACKBONES = "ofav2.backbones"
BRANCHES = "ofav2.branches"
SKIPS = "ofav2.skips"
EXITS = "ofav2.exits"
PHASES = "ofav2.phases"
DISTILLATION = "ofav2.distillation"
TEACHERS = "ofav2.teachers"
DATASETS = "ofav2.datasets"
AUGMENTATIONS = "ofav2.augmentations"
OPTIMIZERS = "ofav2.optimizers"
LOGGERS = "ofav2.loggers"
EXIT_RULES = "ofav2.exit_rules"
EXPORTERS = "ofav2.exporters"
PREDICTORS = "ofav2.predictors"
SEARCHERS = "ofav2.searchers"
EXECUTORS = "ofav2.executors"

_CONTRACTS = {
    BACKBONES: ("backbones", "Backbone"),
    BRANCHES: ("branches", "Branch"),
    SKIPS: ("skips", "Skip"),
    EXITS: ("exits", "Exits"),
    PHASES: ("phases", "Phase"),
    DISTILLATION: ("distillation", "Distillation"),
    TEACHERS: ("teachers", "Teacher"),
    DATASETS: ("data", "Dataset"),
    AUGMENTATIONS: ("augmentation", "Augmentation"),
    OPTIMIZERS: ("optimizers", "Optimizer"),
    LOGGERS: ("loggers", "Logger"),
    EXIT_RULES: ("exit_rules", "ExitRule"),
    EXPORTERS: ("exporters", "Exporter"),
    PREDICTORS: ("predictors", "Predictor"),
    SEARCHERS: ("searchers", "Searcher"),
    EXECUTORS: ("executors", "Executor"),
}
"""Namespace -> its folder and the base class in the folder's base.py that is its contract."""

NAMESPACES = tuple(_CONTRACTS)


@dataclass(frozen=True)
class PluginInfo:
    """One row of `ofav2 plugins`; `problem` is None if the plugin loads."""

    namespace: str
    name: str
    distribution: str
    version: str
    target: str
    summary: str
    settings: Mapping[str, str]
    problem: str | None


def names(namespace: str) -> list[str]:
    """The registered names of a namespace, sorted. Imports no plugin."""
    return sorted({point.name for point in _entry_points(namespace)})


def load(namespace: str, plugin: Any) -> Any:
    """A new instance of a plugin with its settings, checked against its namespace's base class.

    Args:
        namespace: One of `NAMESPACES`.
        plugin: A name, `{"name": ..., setting: value}`, or an instance, which is copied.

    Raises:
        PluginError: The name is unknown or ambiguous, the plugin cannot be imported or constructed, its settings are
            wrong, or it is not a subclass of the contract.
    """
    if isinstance(plugin, Plugin):
        contract = contract_of(namespace)
        if not isinstance(plugin, contract):
            raise PluginError(f"a plugin of {namespace} must be a {contract.__name__}, but got {plugin!r}")
        instance = copy.copy(plugin)
        instance.name = plugin.name or type(plugin).__name__
        return instance
    name, settings = parse_reference(plugin)
    instance = construct(load_class(namespace, name), settings, title(namespace, name))
    instance.name = name
    return instance


def load_all(namespace: str, plugins: Sequence[Any] | None = None) -> dict[str, Any]:
    """Instances by name: the given plugins, or all plugins of the namespace if `plugins` is None."""
    loaded = [load(namespace, plugin) for plugin in (names(namespace) if plugins is None else plugins)]
    return {instance.name: instance for instance in loaded}


def config_of(namespace: str, plugin: Any) -> dict[str, Any]:
    """Name and all settings of a plugin, defaults included (a cache-key input)."""
    config: dict[str, Any] = load(namespace, plugin).config()
    return config


@contextmanager
def calling(namespace: str, name: str, method: str, passing: type[Exception] = PluginError) -> Iterator[None]:
    """Wrap a call into a plugin's code: exceptions become a PluginError that names the plugin and the method.

    Args:
        namespace: The plugin's namespace.
        name: The plugin's name.
        method: The called method, for the message.
        passing: The exceptions that are re-raised unchanged.
    """
    try:
        yield
    except (passing, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        modules = {point.module for point in _entry_points(namespace) if point.name == name}
        lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if _module(frame) in modules]
        where = f" (line {lines[-1]})" if lines else ""
        raise PluginError(f"{title(namespace, name)} fails in {method}{where}: {error_message(error)}") from error


@functools.cache  # listing entry points is slow
def title(namespace: str, name: str) -> str:
    """The title of a loaded plugin in messages, with its distribution, class and file."""
    points = [point for point in _entry_points(namespace) if point.name == name]
    return f"plugin {name!r} of {namespace}" + (f" ({_origin(points[0])})" if len(points) == 1 else "")


def explain(error: BaseException) -> str:
    """An exception as one line; if the code of a plugin raised it, the line names the plugin.

    The innermost call into this package, `ofa` or a plugin's module decides, because an exception from a library is
    attributed to its caller.
    """
    if isinstance(error, UserError):
        return error_message(error)
    points = [(namespace, point) for namespace in NAMESPACES for point in _entry_points(namespace)]
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        of_module = [(namespace, point) for namespace, point in points if point.module == _module(frame)]
        if of_module:
            called = type(frame.f_locals.get("self")).__name__
            found = [each for each in of_module if each[1].attr == called] or of_module
            names = " or ".join(title(namespace, point.name) for namespace, point in found)
            return f"{names} fails in {frame.f_code.co_name} (line {line}): {error_message(error)}"
        if _module(frame).partition(".")[0] in ("ofav2_plugins", "ofa"):
            break
    return error_message(error)


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def describe() -> list[PluginInfo]:
    """Every registered plugin with its origin and whether it loads. Imports all of them."""
    rows = []
    for namespace in NAMESPACES:
        for point in sorted(_entry_points(namespace), key=lambda p: p.name):
            summary, settings, problem = "", dict[str, str](), None
            try:
                plugin_class = type(load(namespace, point.name))
                summary = (inspect.getdoc(plugin_class) or "").partition("\n")[0]
                settings = describe_settings(plugin_class)
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
                    settings=settings,
                    problem=problem,
                )
            )
    return rows


def distributions() -> dict[str, str]:
    """Name -> version of every distribution that registers a plugin."""
    found = (point.dist for namespace in NAMESPACES for point in _entry_points(namespace))
    return {dist.name: dist.version for dist in found if dist}


def source_digests() -> dict[str, str]:
    """Distribution -> hash of the source code of the packages that contain its plugins."""
    modules: dict[str, set[str]] = {}
    for namespace in NAMESPACES:
        for point in _entry_points(namespace):
            if point.dist:
                modules.setdefault(point.dist.name, set()).add(point.module.partition(".")[0])
    return {name: _source_digest(sorted(found)) for name, found in modules.items()}


def _source_digest(packages: Sequence[str]) -> str:
    digest = hashlib.blake2b(digest_size=4)
    for package in packages:
        spec = importlib.util.find_spec(package)  # imports nothing, because the name is a top-level one
        folders = [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
        single = [Path(spec.origin)] if spec and spec.origin and not folders else []
        for path in [*single, *sorted(file for folder in folders for file in folder.rglob("*.py"))]:
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _entry_points(namespace: str) -> list[importlib.metadata.EntryPoint]:
    # importlib lists a distribution twice if its checkout is on sys.path and also installed in editable mode.
    unique = {}
    for point in importlib.metadata.entry_points(group=namespace):
        unique[point.name, point.value, point.dist.name if point.dist else ""] = point
    return list(unique.values())


def _origin(point: importlib.metadata.EntryPoint) -> str:
    dist = f"{point.dist.name} {point.dist.version}" if point.dist else "unknown distribution"
    file = getattr(sys.modules.get(point.module), "__file__", None)
    return ", ".join([dist, point.value, *([file] if file else [])])


@functools.cache
def load_class(namespace: str, name: str) -> type:
    """The class of a plugin; see `load`."""
    points = [point for point in _entry_points(namespace) if point.name == name]
    if not points:
        raise PluginError(
            f"unknown plugin {name!r} in {namespace}; registered plugins: {', '.join(names(namespace)) or 'none'}"
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
    NamedExtensionManager.ENTRY_POINT_CACHE.pop(namespace, None)  # a package may have been installed since
    try:
        manager = NamedExtensionManager(namespace, names=[name], on_load_failure_callback=fail)
    except (AssertionError, SystemExit) as error:  # stevedore does not catch these
        fail(None, None, error)
    plugin, contract = manager[name].plugin, contract_of(namespace)
    if not (inspect.isclass(plugin) and issubclass(plugin, contract)):
        raise PluginError(
            f"{where} must be a subclass of {contract.__module__}.{contract.__name__}, but got {plugin!r}"
        )
    return plugin


def contract_of(namespace: str) -> type:
    """The base class of a namespace. Imported here, because listing names must not import torch."""
    folder, name = _CONTRACTS[namespace]
    contract: type = getattr(importlib.import_module(f"ofav2_plugins.{folder}.base"), name)
    return contract
