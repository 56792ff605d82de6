"""The base class of every plugin, its settings, and references to plugins. Does not import torch.

A plugin's settings are the keyword arguments of its constructor, stored as attributes of the same names (the
convention of scikit-learn's estimators). A plugin can be given as a name, a mapping with settings, or an instance.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    ValidationError,
    WithJsonSchema,
    create_model,
)

from .errors import UserError


class PluginError(UserError):
    """A plugin is unknown or ambiguous, cannot be imported, has wrong settings, or breaks its namespace's contract.

    Args:
        message: The message.
        setting: The setting that is wrong, if it is known.
    """

    def __init__(self, message: str, setting: str | None = None):
        super().__init__(message)
        self.setting = setting


class Plugin:
    """A named strategy with settings; base class of every namespace's contract."""

    name: str = ""
    """The entry-point name; set by the registry."""

    @property
    def settings(self) -> dict[str, Any]:
        """The constructor's arguments by name, as JSON-able values.

        Raises:
            PluginError: The constructor did not store an argument under its own name.
        """
        missing = [name for name in setting_parameters(type(self)) if not hasattr(self, name)]
        if missing:
            raise PluginError(
                f"plugin class {type(self).__qualname__} must store the setting {missing[0]!r} as an attribute of that "
                "name, but it does not"
            )
        return {name: _jsonable(getattr(self, name)) for name in setting_parameters(type(self))}

    def config(self) -> dict[str, Any]:
        """The plugin's name and all of its settings, as `{"name": ..., setting: value}`."""
        return {"name": self.name, **self.settings}


def _jsonable(value: Any) -> Any:
    return [_jsonable(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def setting_parameters(plugin_class: type) -> dict[str, inspect.Parameter]:
    """The settings of a plugin class, with resolved annotations.

    Raises:
        PluginError: The constructor takes `*args` or `**kwargs`, which cannot be listed.
    """
    parameters = list(inspect.signature(plugin_class).parameters.values())
    try:
        hints = typing.get_type_hints(getattr(plugin_class, "__init__"))  # noqa: B009 - mypy rejects the attribute
    except NameError:  # a name that is imported for type checkers only
        hints = {}
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise PluginError(
                f"the constructor of plugin class {plugin_class.__qualname__} must declare each setting by name, but "
                f"it takes {parameter}"
            )
    return {p.name: p.replace(annotation=hints.get(p.name, Any)) for p in parameters}


def describe_settings(plugin_class: type) -> dict[str, str]:
    """Setting -> "type = default", for messages and tables."""
    described = {}
    for name, parameter in setting_parameters(plugin_class).items():
        kind = inspect.formatannotation(parameter.annotation).replace("typing.", "").replace("[Any, ...]", "")
        kind = kind.replace("collections.abc.", "")
        described[name] = kind if parameter.default is parameter.empty else f"{kind} = {parameter.default!r}"
    return described


def construct(plugin_class: type, settings: Mapping[str, Any], title: str) -> Any:
    """An instance of `plugin_class` with these settings, checked against the constructor's annotations.

    Args:
        plugin_class: The class.
        settings: Setting -> value; missing settings keep their defaults.
        title: The plugin's title in error messages.

    Raises:
        PluginError: A setting is unknown, missing or wrong, or the constructor raises; lists the settings.
    """
    parameters = setting_parameters(plugin_class)
    described = describe_settings(plugin_class)
    listed = ", ".join(f"{name}: {text}" for name, text in described.items())
    remedy = f"its settings are {listed}" if listed else "it has no settings"
    for name, value in settings.items():
        if name not in parameters:
            raise PluginError(f"{title} has no setting {name!r}; {remedy}", setting=name)
        if isinstance(value, bool) and "bool" not in described[name] and parameters[name].annotation is not Any:
            raise PluginError(f"{title}: setting {name!r} must not be a boolean, but got {value!r}; {remedy}", name)
    try:
        checked = _settings_model(plugin_class).model_validate(dict(settings))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        given = "" if first["type"] == "missing" else f", but got {first['input']!r}"
        raise PluginError(
            f"{title}: setting {field!r}: {first['msg']}{given}; {remedy}", str(first["loc"][0])
        ) from error
    try:
        return plugin_class(**{name: getattr(checked, name) for name in settings})
    except ValueError as error:  # the constructor's own check of a value; by convention it starts with the setting
        subject = str(error).partition(" ")[0]
        raise PluginError(f"{title}: {error}; {remedy}", subject if subject in parameters else None) from error
    except (Exception, SystemExit) as error:
        raise PluginError(f"{title} cannot be constructed: {type(error).__name__}: {error}") from error


@functools.lru_cache(maxsize=256)  # creating a model takes milliseconds, and each static subnet loads plugins
def _settings_model(plugin_class: type) -> type[BaseModel]:
    """The pydantic model that validates the settings of a plugin class."""
    fields: dict[str, Any] = {
        name: (p.annotation, ... if p.default is p.empty else p.default)
        for name, p in setting_parameters(plugin_class).items()
    }
    model: type[BaseModel] = create_model("Settings", __config__=_SETTINGS_CONFIG, **fields)
    return model


_SETTINGS_CONFIG = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=(), allow_inf_nan=False)


def parse_reference(plugin: Any) -> tuple[str, dict[str, Any]]:
    """Name and settings of a reference to a plugin: an instance, a name or `{"name": ..., setting: value}`.

    Raises:
        PluginError: `plugin` is none of these.
    """
    if isinstance(plugin, Plugin):
        return plugin.name or type(plugin).__name__, plugin.settings
    if isinstance(plugin, str) and plugin:
        return plugin, {}
    if isinstance(plugin, Mapping) and isinstance(plugin.get("name"), str):
        return plugin["name"], {str(key): value for key, value in plugin.items() if key != "name"}
    raise PluginError(f"a plugin must be a name or a mapping {{name: ..., setting: value}}, but got {plugin!r}")


def is_reference(plugin: Any) -> bool:
    """Whether `parse_reference` accepts a value."""
    try:
        parse_reference(plugin)
    except PluginError:
        return False
    return True


def reference_name(plugin: Any) -> str:
    """The name in a reference to a plugin."""
    return parse_reference(plugin)[0]


def to_reference(plugin: Any) -> str | dict[str, Any]:
    """A JSON-able reference: the name if no settings are given, else name and settings."""
    name, settings = parse_reference(plugin)
    return {"name": name, **settings} if settings else name


def describe_reference(plugin: Any) -> str:
    """A readable reference: "kl" or "kl (temperature 4)"."""
    name, settings = parse_reference(plugin)
    words = ", ".join(f"{key} {value}" for key, value in settings.items())
    return f"{name} ({words})" if words else name


def _checked_reference(plugin: Any) -> Any:
    parse_reference(plugin)
    return plugin


PluginRef = Annotated[
    Any,
    BeforeValidator(_checked_reference),
    PlainSerializer(to_reference),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {
                    "type": "object",
                    "properties": {"name": {"type": "string", "description": "Name of the plugin."}},
                    "required": ["name"],
                    "description": "A plugin; the other keys are its settings.",
                },
            ]
        }
    ),
]
"""Type of a pydantic field that names a plugin: a name, a mapping with settings, or an instance."""
