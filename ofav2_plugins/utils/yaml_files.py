"""Validated YAML files: loaded into a pydantic model; errors name the file, the line and the field."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from ..errors import UserError

Model = TypeVar("Model", bound=BaseModel)

Override = str | tuple[str, Any]
"""An override of a field of the file: "key.sub=value" with a YAML value, or (key.sub, value)."""

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80
_short.maxlevel = 2


class StrictModel(BaseModel):
    """A frozen model that rejects unknown fields; the error lists the model's own fields."""

    model_config = ConfigDict(
        frozen=True, use_attribute_docstrings=True, json_schema_extra={"additionalProperties": False}
    )

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            for key in data:
                if key not in cls.model_fields:
                    known = ", ".join(cls.model_fields)
                    raise PydanticCustomError(
                        "unknown_field", "unknown field; known fields: {known}", {"known": known, "field": str(key)}
                    )
        return data


def find_data_file(kind: str, name: str, folder: Path) -> Path:
    """The file that `name` refers to: a path to a .yaml file, or the name of a file that ships in `folder`.

    Raises:
        UserError: Neither exists; lists the available names.
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


def parse_yaml(text: str) -> Any:
    """A YAML value as plain Python objects.

    Raises:
        UserError: The text is not valid YAML.
    """
    try:
        return _plain(YAML(typ="rt").load(text), {})
    except (YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"the value is not valid YAML: {_short.repr(text)}") from error


def load_model(path: Path, model: type[Model], overrides: Sequence[Override] = (), load_plugins: bool = False) -> Model:
    """Read `path` into `model`, with overrides applied first.

    Args:
        path: The file.
        model: The pydantic model.
        overrides: Overrides of fields of the file.
        load_plugins: Passed to the model's validators, which then load the plugins that the file names.

    Raises:
        UserError: The file is not YAML, or a field or override is wrong; one line with file, line, field and value.
    """
    tree = _read(path)
    try:
        data = _plain(tree, {})
    except ValueError as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    if not isinstance(data, dict):
        raise UserError(f"{path}, line 1: must be a mapping of fields, but got {type(data).__name__}")
    for override in overrides:
        data = apply_override(_with_default(data, model, override), override)
    return validate(data, model, str(path), tree, overrides, load_plugins)


def _with_default(data: dict[str, Any], model: type[BaseModel], override: Override) -> dict[str, Any]:
    """`data` with the default value of a field that an override changes in part."""
    key, _, rest = override_key(override).partition(".")
    if not rest or key in data or key not in model.model_fields:
        return data
    default = model.model_fields[key].get_default(call_default_factory=True)
    return {**data, key: default.model_dump() if isinstance(default, BaseModel) else default}


def _read(path: Path) -> Any:
    try:
        tree = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
        return CommentedMap() if tree is None else tree
    except DuplicateKeyError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        key = str(error.problem).partition('"')[2].partition('"')[0]
        raise UserError(f"{path}, line {line}: {key}: is given twice") from error
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{path}, line {line}: not valid YAML: {error.problem}") from error
    except RecursionError as error:
        raise UserError(f"{path}: cannot be read: its values are nested too deeply") from error
    except (OSError, ValueError, YAMLError) as error:  # ValueError: not UTF-8, a date such as 2020-13-45
        raise UserError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error


_OPEN = object()


def _plain(value: Any, known: dict[int, Any]) -> Any:
    """Convert ruamel's objects to plain Python objects; mappings that are shared by aliases stay shared.

    Args:
        value: The value.
        known: The plain objects of mappings, by the `id` of the original; `_OPEN` for a value that is being converted.

    Raises:
        ValueError: A value contains itself.
    """
    if known.get(id(value)) is _OPEN:
        raise ValueError("a value must not contain itself, but an alias refers to a value around it")
    if id(value) in known:
        return known[id(value)]
    if isinstance(value, Mapping):
        known[id(value)] = _OPEN
        known[id(value)] = plain = {_plain(key, known): _plain(entry, known) for key, entry in value.items()}
        return plain
    if isinstance(value, (list, tuple)):
        known[id(value)] = _OPEN
        entries = [_plain(entry, known) for entry in value]
        del known[id(value)]
        return entries
    return next((kind(value) for kind in (bool, int, float, str) if isinstance(value, kind)), value)


def validate(
    data: Mapping[str, Any],
    model: type[Model],
    source: str,
    tree: Any = None,
    overrides: Sequence[Override] = (),
    load_plugins: bool = False,
) -> Model:
    """Validate `data` as `model`; the first error becomes one line that names `source`, the line and the field."""
    try:
        return model.model_validate(data, context={"load_plugins": load_plugins})
    except ValidationError as error:
        errors = error.errors()
        first = errors[0]
        loc = [part for part in first["loc"] if not _is_union_tag(part)]
        context = first.get("ctx", {})
        if "field" in context:
            loc.append(context["field"])
        field = ".".join(map(str, loc)) or "the file"
        message = first["msg"].removeprefix("Value error, ")
        complete = first["type"] == "missing" or "field" in context or isinstance(context.get("error"), UserError)
        given = "" if complete or "but got" in message else f", but got {_short.repr(first['input'])}"
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        by_hand = next((o for o in reversed(overrides) if _concerns(o, field)), None)
        if by_hand is not None:
            source = f"override {override_text(by_hand)!r}"
        elif line := _line(tree, loc):
            source = f"{source}, line {line}"
        raise UserError(f"{source}: {field}: {message}{given}{more}") from error
    except RecursionError as error:
        raise UserError(f"{source}: cannot be read: its values are nested too deeply") from error


def override_key(override: Override) -> str:
    """The field that an override sets."""
    return override[0] if isinstance(override, tuple) else override.partition("=")[0]


def overlap(first: str, second: str) -> bool:
    """Whether two fields are equal, or one is part of the other."""
    return f"{first}.".startswith(f"{second}.") or f"{second}.".startswith(f"{first}.")


def _concerns(override: Override, field: str) -> bool:
    return overlap(override_key(override), field)


def override_text(override: Override) -> str:
    """An override as it would be written on the command line."""
    return override if isinstance(override, str) else f"{override[0]}={override[1]}"


def apply_override(data: Mapping[str, Any], override: Override) -> dict[str, Any]:
    """A copy of `data` with one field set.

    A list is addressed by an index from 0 or by the name of a plugin in it; a field that names a plugin takes
    settings as sub-fields: `distillation.temperature=4`.

    Raises:
        UserError: The override is malformed, or addresses a sub-field of a value that has no fields.
    """
    if isinstance(override, tuple):
        key, value = override
    else:
        key, sign, text = override.partition("=")
        if not sign or not key:
            raise UserError(f"an override must have the form key.sub=value, but got {override!r}")
        try:
            value = parse_yaml(text)
        except UserError as error:
            raise UserError(f"override {override!r}: {error}") from error
    changed: dict[str, Any] = _replaced(data, key.split("."), value, override)
    return changed


def _replaced(data: Any, keys: list[str], value: Any, override: Override) -> Any:
    if not keys:
        return value
    key, rest = keys[0], keys[1:]
    if isinstance(data, list):
        index = _index(data, key)
        if index is None:
            named = f", or one of {', '.join(names)}" if (names := [n for n in map(_plugin_name, data) if n]) else ""
            raise UserError(
                f"override {override_text(override)!r}: {key!r} must be an index in 0..{len(data) - 1}{named}"
            )
        return [_replaced(entry, rest, value, override) if i == index else entry for i, entry in enumerate(data)]
    if isinstance(data, str):
        data = {"name": data}  # a plugin without settings so far
    if data is not None and not isinstance(data, Mapping):
        given = override_key(override).split(".")
        raise UserError(
            f"override {override_text(override)!r}: {'.'.join(given[: -len(keys)])!r} is a value without fields"
        )
    return {**(data or {}), key: _replaced((data or {}).get(key, {} if rest else None), rest, value, override)}


def _index(data: list[Any], key: str) -> int | None:
    if key.isdigit():
        return int(key) if int(key) < len(data) else None
    return next((i for i, entry in enumerate(data) if _plugin_name(entry) == key), None)


def _plugin_name(entry: Any) -> str | None:
    name = entry.get("name") if isinstance(entry, Mapping) else entry
    return name if isinstance(name, str) else None


def _is_union_tag(part: Any) -> bool:
    """Whether a part of an error's location is not a field: a union's tag, or the marker of a wrong key."""
    return isinstance(part, str) and (part.startswith("<") or part == "[key]")


def _line(node: Any, loc: Sequence[Any]) -> int | None:
    """The line of the deepest entry that `loc` reaches."""
    if not isinstance(node, (CommentedMap, CommentedSeq)):
        return None
    line = (node.lc.line or 0) + 1  # None: an empty file
    for part in loc:
        if isinstance(node, CommentedMap):
            key = next((k for k in node if str(k) == str(part)), None)
            if key is None:
                continue
            line, node = node.lc.key(key)[0] + 1, node[key]
        elif isinstance(node, CommentedSeq) and isinstance(part, int) and part < len(node):
            line, node = node.lc.item(part)[0] + 1, node[part]
    return line
