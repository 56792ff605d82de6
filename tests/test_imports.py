"""Imports point one way: no circles between modules, one door to stevedore, one door to ofa."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "ofav2_plugins"


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    paths = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return paths


def imported(name: str, path: Path) -> set[str]:
    """What a module imports while it is itself imported: top-level statements, not those for type checkers."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package[: len(package) - node.level + 1], node.module or ""]).strip(".")
            base = base if node.level else node.module or ""
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return found


def test_there_are_no_circles():
    known = modules()
    graph = {name: {other for other in imported(name, path) if other in known and other != name}
             for name, path in known.items()}  # fmt: skip
    assert graph["ofav2_plugins.supernet"] >= {"ofav2_plugins.subnet", "ofav2_plugins.space"}
    # A package's own __init__ is imported by each of its modules whether they name it or not.
    order = list(TopologicalSorter(graph).static_order())
    assert set(order) >= set(known)


def test_one_door_each():
    doors: dict[str, set[str]] = {"stevedore": set(), "ofa": set()}
    for name, path in modules().items():
        for other in imported(name, path):
            if other.split(".")[0] in doors:
                doors[other.split(".")[0]].add(name)
    assert doors == {"stevedore": {"ofav2_plugins.registry"}, "ofa": {"ofav2_plugins.upstream"}}
