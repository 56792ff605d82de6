"""The plugins and settings of each arm, as text. Does not import torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import UserError
from ..models.spec import resolve_spec
from ..plugin import describe_reference
from .rows import Row

_NOT_PARTS = ("description",)


def compositions(rows: Sequence[Row], recipes: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Arm -> part -> plugin or setting, for everything that makes up an arm.

    The parts are the supernet and its components, the phases in order, and every field of the recipe, for example
    "evaluation.batch_size".

    Args:
        rows: The runs; the first of an arm names its supernet and its teacher.
        recipes: Arm -> recipe.
    """
    first: dict[str, Row] = {}
    for row in rows:
        first.setdefault(row["arm"], row)
    found = {}
    for arm in dict.fromkeys([*first, *recipes]):
        row, recipe = first.get(arm, {}), dict(recipes.get(arm) or {})
        recipe.setdefault("teacher", row.get("teacher"))
        parts = _supernet_parts(row.get("supernet"))
        planned = row.get("steps") or recipe.get("phases") or []
        parts["phases"] = ", ".join(dict.fromkeys(re.sub(r"-\d+$", "", str(step)) for step in planned))
        for field, value in recipe.items():
            parts.update(_flatten(field, value) if field not in _NOT_PARTS else {})
        found[arm] = {part: text for part, text in parts.items() if text}
    return found


def varied_parts(found: Mapping[str, Mapping[str, str]]) -> list[str]:
    """The parts in which the arms differ, in the order in which they appear."""
    parts = dict.fromkeys(part for arm in found.values() for part in arm)
    return [part for part in parts if len({arm.get(part) for arm in found.values()}) > 1]


def common_parts(found: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """The parts that are the same in all arms, with their text."""
    varied = varied_parts(found)
    first = next(iter(found.values()), {})
    return {part: text for part, text in first.items() if part not in varied}


def _supernet_parts(supernet: Any) -> dict[str, str]:
    parts = {} if supernet is None else {"supernet": describe(supernet)}
    try:
        composed = resolve_spec(supernet).to_dict()
    except (UserError, TypeError, AttributeError):  # not recorded, or written by another version of a plugin
        return parts
    return {**parts, **{part: describe(value) or "none" for part, value in composed.items()}}


def _flatten(field: str, value: Any) -> dict[str, str]:
    """Fields as "a.b" -> text; a plugin with its settings is one text."""
    if isinstance(value, Mapping) and "name" not in value:
        nested = [_flatten(f"{field}.{key}", entry) for key, entry in value.items()]
        return {part: text for parts in nested for part, text in parts.items()}
    if (
        isinstance(value, Sequence)
        and value
        and all(isinstance(entry, Mapping) and "name" not in entry for entry in value)
    ):
        return {
            part: text
            for i, entry in enumerate(value, start=1)
            for part, text in _flatten(f"{field}[{i}]", entry).items()
        }
    return {field: describe(value)}


def describe(value: Any) -> str:
    """A readable form of a plugin or a setting: "kl", "kl (temperature 4)", "conv1x1 + transform", "32, 40"."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        named = isinstance(value.get("name"), str)
        return describe_reference(value) if named else ", ".join(f"{k} {describe(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        plugins = any(isinstance(entry, (str, Mapping)) for entry in value)
        return (" + " if plugins else ", ").join(map(describe, value))
    return str(value)
