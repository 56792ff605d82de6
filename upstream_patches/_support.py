"""Shared by the patches: detect a defect in upstream's source, and change upstream when it is imported.

Imports neither torch nor ofa. Upstream's files are read by path. A module that is not imported yet is changed
right after its import, before any other module can copy a name from it.
"""

from __future__ import annotations

import ast
import functools
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

Change = Callable[[ModuleType], None]


@functools.cache
def source(module: str) -> str:
    """Source text of `module`, or "" if it has none. Finds the top-level package and imports nothing."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    for folder in (spec.submodule_search_locations if spec else None) or ():
        base = Path(folder, *rest)
        for file in (base.with_suffix(".py"), base / "__init__.py"):
            if file.is_file():
                return file.read_text(encoding="utf-8")
    return ""


class Defect:
    """A defect of one upstream module, identified by a piece of the module's source text."""

    def __init__(self, module: str, text: str) -> None:
        self.module = module
        self.text = text
        self.repaired = False

    def present(self) -> bool:
        return not self.repaired and self.text in source(self.module)

    def repair(self, change: Change, on: str | None = None) -> None:
        """Run `change` on the module (or on module `on`): now if it is imported, otherwise after its import."""
        if self.present():
            when_imported(on or self.module, change)
            self.repaired = True


_changes: dict[str, list[Change]] = {}


class _Finder(importlib.abc.MetaPathFinder):
    """Post-import hook: finds a module as Python does, and runs the pending changes after its execution."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in _changes:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                for change in _changes[fullname]:
                    change(module)

            # set on this one loader object, so that its type and its other methods do not change
            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def when_imported(module: str, change: Change) -> None:
    """Run `change(module)` now if the module is imported, and after each later import of it."""
    if module in sys.modules:
        change(sys.modules[module])
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    _changes.setdefault(module, []).append(change)


def replace(owner: ModuleType | type, name: str, make: Callable[[Any], Any]) -> None:
    """Replace function `name` of a class or module with `make(old)`.

    If `owner` is a module, modules that have copied the function with `from ... import` get the new one too.
    """
    old = getattr(owner, name)
    new = functools.wraps(old)(make(old))
    setattr(owner, name, new)
    if isinstance(owner, ModuleType):
        for module in list(sys.modules.values()):
            # the module's dictionary, because attribute access would trigger lazy imports
            if getattr(module, "__dict__", {}).get(name) is old:
                setattr(module, name, new)


def edit(function: Any, *changes: tuple[str, str]) -> None:
    """Replace pieces of a function's source text in place, so that every reference to it runs the new code.

    For a defect in the middle of a long function: the rest of the function remains that of the installed upstream,
    while a complete replacement would copy one upstream version.

    Raises:
        ValueError: The source text does not contain a piece.
    """
    function = inspect.unwrap(function)
    assert isinstance(function, FunctionType)
    lines, first = inspect.getsourcelines(function)
    text = function.__dict__.get("__edited_source__") or textwrap.dedent("".join(lines))
    for old, new in changes:
        if old not in text:
            raise ValueError(f"{function.__module__}.{function.__qualname__} has no {old!r}")
        text = text.replace(old, new)
    tree = ast.parse(text)
    definition = tree.body[0]
    assert isinstance(definition, ast.FunctionDef)
    definition.decorator_list.clear()
    if function.__code__.co_freevars == ("__class__",):
        # A method that uses `super` has the cell `__class__`, which exists only inside a class body.
        tree = ast.parse("class _: pass")
        tree.body[0].body = [definition]  # type: ignore[attr-defined]
    ast.increment_lineno(definition, first - 1)  # tracebacks then show the lines of upstream's file
    namespace: dict[str, Any] = {}
    exec(compile(tree, function.__code__.co_filename, "exec"), function.__globals__, namespace)
    made = namespace.get(function.__name__) or vars(namespace["_"])[function.__name__]
    function.__code__ = made.__code__
    function.__dict__["__edited_source__"] = text
