"""Validated data files: YAML into a pydantic model; an error names the file, the line and the field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from ..errors import UserError

Model = TypeVar("Model", bound=BaseModel)


def find_data_file(kind: str, name: str, folder: Path) -> Path:
    """The file that `name` means: a path to a .yaml file, or the name of one that ships in `folder`.

    Raises:
        UserError: Neither exists; lists the names that ship.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise UserError(f"{kind} file {name} does not exist")
        return path
    shipped = {p.stem: p for p in sorted(folder.glob("*.yaml"))}
    if name not in shipped:
        raise UserError(f"{kind} must be one of {', '.join(shipped)} or a path to a .yaml file, but got {name!r}")
    return shipped[name]


def load_model(path: Path, model: type[Model], overrides: Sequence[str] = ()) -> Model:
    """Read `path` into `model`, with `key.sub=value` overrides (values are YAML) applied first.

    Raises:
        UserError: Not YAML, a wrong field or a wrong override; one line with file, line, field and value.
    """
    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.compose(text)
        _refuse_doubled(tree, path)
        data = {} if tree is None else yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{path}, line {line}: not valid YAML: {error.problem}") from error
    except UserError:
        raise
    except (OSError, ValueError, yaml.YAMLError) as error:  # ValueError: not UTF-8, a date such as 2020-13-45
        raise UserError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise UserError(f"{path}, line 1: must be a mapping of fields, but got {type(data).__name__}")
    for override in overrides:
        data = apply_override(data, override)
    return validate(data, model, str(path), tree, overrides)


def validate(
    data: Mapping[str, Any],
    model: type[Model],
    where: str,
    tree: yaml.Node | None = None,
    overrides: Sequence[str] = (),
) -> Model:
    """`data` as `model`; the first error becomes one line that names `where`, the line and the field."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        errors = _meant(error.errors())
        first = errors[0]
        field = ".".join(str(part) for part in first["loc"] if not _is_union_tag(part)) or "the file"
        by_hand = next((o for o in reversed(overrides) if _concerns(o, field)), None)
        if by_hand is not None:
            where = f"override {by_hand!r}"
        else:
            line = _line(tree, first["loc"])
            where = f"{where}, line {line}" if line else where
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        message = first["msg"].removeprefix("Value error, ")
        given = "" if first["type"] == "missing" else f", but got {first['input']!r}"
        if first["type"] == "extra_forbidden":
            message, given = f"unknown field; known are {', '.join(_known(model, first['loc']))}", ""
        raise UserError(f"{where}: {field}: {message}{given}{more}") from error


def _concerns(override: str, field: str) -> bool:
    """Whether an override sets the field, something around it, or something in it."""
    key = override.partition("=")[0]
    return f"{field}.".startswith(f"{key}.") or f"{key}.".startswith(f"{field}.")


def _meant(errors: list[Any]) -> list[Any]:
    """The errors without those of a union's other alternatives; alternatives that all fail count as one."""
    kept: dict[tuple[Any, ...], Any] = {}
    for error in errors:
        loc = tuple(error["loc"])
        deeper = (
            other for other in errors if len(other["loc"]) > len(loc) and other["loc"][: len(loc) - 1] == loc[:-1]
        )
        if not (loc and _is_union_tag(loc[-1]) and loc[-1] != _KEY and any(deeper)):
            kept.setdefault(tuple(part for part in loc if not _is_union_tag(part)), error)
    return list(kept.values())


def _refuse_doubled(tree: yaml.Node | None, path: Path) -> None:
    """Raises UserError for a key that a mapping has twice: YAML would silently take the last."""
    nodes, visited = [tree], set()
    while nodes:
        node = nodes.pop()
        if id(node) in visited:  # an alias
            continue
        visited.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            nodes += node.value
        elif isinstance(node, yaml.MappingNode):
            keys: set[str] = set()
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode):
                    if key.value in keys:
                        raise UserError(f"{path}, line {key.start_mark.line + 1}: {key.value}: is there twice")
                    keys.add(key.value)
                nodes.append(value)


def apply_override(data: Mapping[str, Any], override: str) -> dict[str, Any]:
    """A copy of `data` with one `key.sub=value` set; a list is addressed by its index from 0.

    Raises:
        UserError: The override is malformed or walks through something that is no mapping or list.
    """
    keys, sign, value = override.partition("=")
    if not sign or not keys:
        raise UserError(f"an override is written key.sub=value, but got {override!r}")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UserError(f"override {override!r}: the value is not valid YAML") from error
    return _replaced(data, keys.split("."), parsed, override)


def _replaced(data: Any, keys: list[str], value: Any, override: str) -> Any:
    if not keys:
        return value
    key, rest = keys[0], keys[1:]
    if isinstance(data, list):
        if not key.isdigit() or int(key) >= len(data):
            raise UserError(f"override {override!r}: {key!r} must be an index in 0..{len(data) - 1}")
        return [_replaced(v, rest, value, override) if i == int(key) else v for i, v in enumerate(data)]
    if not isinstance(data, Mapping):
        given = override.partition("=")[0].split(".")
        raise UserError(f"override {override!r}: there is nothing below {'.'.join(given[: -len(keys)])!r}")
    return {**data, key: _replaced(data.get(key, {}), rest, value, override)}


def _is_union_tag(part: Any) -> bool:
    # pydantic puts the tried alternative ("list[StepRecipe]", "StepRecipe") between the fields of a union,
    # and "[key]" behind a key that is itself wrong.
    return isinstance(part, str) and ((part[:1].isupper() and part.isidentifier()) or "[" in part or part in _TAGS)


_TAGS = ("str", "int", "float", "bool")
_KEY = "[key]"


def _known(model: type[BaseModel], loc: Sequence[Any]) -> list[str]:
    """Fields that exist where `loc` points: those of the deepest model on the way that can be told."""
    fields = model.model_fields
    for part in loc[:-1]:
        annotation = fields[part].annotation if part in fields else None
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            fields = annotation.model_fields
        elif part not in fields:
            from_name = {m.__name__: m for m in _models_in(model)}
            if part in from_name:
                fields = from_name[part].model_fields
    return list(fields)


def _models_in(model: type[BaseModel]) -> list[type[BaseModel]]:
    module = vars(__import__(model.__module__, fromlist=["_"]))
    return [m for m in module.values() if isinstance(m, type) and issubclass(m, BaseModel)]


def _line(node: yaml.Node | None, loc: Sequence[Any]) -> int | None:
    """The line of the deepest node that `loc` reaches."""
    if node is None:
        return None
    line = node.start_mark.line + 1
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if found is None:
                continue
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line
