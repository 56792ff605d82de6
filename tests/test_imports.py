"""Imports point one way: from the list's end to its beginning; one door to stevedore, one door to ofa."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = "ofav2_plugins"
PACKAGE = Path(__file__).parent.parent / ROOT

ORDER = """
    __init__
    errors plugin utils registry space upstream
    branches skips exits augmentation optimizers loggers models backbones
    distillation phases teachers exit_rules exporters
    data recipes evaluation training execution executors
    predictors searchers search deploy study report testing doctor cli __main__
""".split()
"""The package's modules and folders; each may import, wherever it does, those before it. Within a folder there is
no order, but no circle either."""


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    paths = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return paths


def statements(node: ast.AST, inside: bool) -> Iterator[ast.AST]:
    """The statements below a node, those of functions and classes only if `inside`, those for type checkers never."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        if inside or not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield from statements(child, inside)


def imported(name: str, path: Path, inside: bool = False) -> set[str]:
    """What a module imports while it is itself imported, or also later, inside its functions."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    found = set()
    for node in statements(ast.parse(path.read_text(encoding="utf-8")), inside):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package[: len(package) - node.level + 1], node.module or ""]).strip(".")
            base = base if node.level else node.module or ""
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return found


def place(name: str) -> str:
    """The entry of ORDER that a module belongs to."""
    return name.split(".")[1] if "." in name else "__init__"


def upward(name: str, others: set[str]) -> list[str]:
    """Those of the package's modules among `others` that module `name` must not import."""
    return sorted(
        other
        for other in others & set(modules())
        if place(other) != place(name) and ORDER.index(place(other)) > ORDER.index(place(name))
    )


def test_every_module_has_a_place_in_the_order():
    places = {place(name) for name in modules()}
    assert not places - set(ORDER), f"add {sorted(places - set(ORDER))} to ORDER above, after all that it imports"
    assert not set(ORDER) - places, f"remove {sorted(set(ORDER) - places)} from ORDER above: there is no such module"
    assert len(ORDER) == len(places)


def test_imports_point_to_what_comes_before():
    listed = {name: path for name, path in modules().items() if place(name) in ORDER}
    wrong = [
        f"{name} imports {other}, which comes after it in ORDER"
        for name, path in sorted(listed.items())
        for other in upward(name, {other for other in imported(name, path, inside=True) if place(other) in ORDER})
    ]
    assert not wrong, "\n".join(wrong)


def test_the_order_is_checked_inside_functions_but_not_for_type_checkers(tmp_path):
    made = tmp_path / "made.py"
    made.write_text(
        "from typing import TYPE_CHECKING\n"
        "from .errors import UserError\n"
        "if TYPE_CHECKING:\n    from .cli import main\n"
        "def f():\n if 1:\n  from .execution.training_run import TrainingRun\n  from . import doctor\n"
        " from .errors import RunError\n"
    )
    assert upward(f"{ROOT}.models.supernet", imported(f"{ROOT}.made", made, inside=True)) == [
        f"{ROOT}.doctor",
        f"{ROOT}.execution.training_run",
    ]
    assert upward(f"{ROOT}.models.supernet", imported(f"{ROOT}.made", made)) == []


def test_there_are_no_circles():
    known = modules()
    graph = {name: {other for other in imported(name, path) if other in known and other != name}
             for name, path in known.items()}  # fmt: skip
    assert graph["ofav2_plugins.models.supernet"] >= {"ofav2_plugins.models.subnet", "ofav2_plugins.space"}
    # A package's own __init__ is imported by each of its modules whether they name it or not.
    order = list(TopologicalSorter(graph).static_order())
    assert set(order) >= set(known)


def test_one_door_each():
    doors: dict[str, set[str]] = {"stevedore": set(), "ofa": set()}
    for name, path in modules().items():
        for other in imported(name, path, inside=True):
            if other.split(".")[0] in doors:
                doors[other.split(".")[0]].add(name)
    assert doors == {"stevedore": {"ofav2_plugins.registry"}, "ofa": {"ofav2_plugins.upstream"}}
