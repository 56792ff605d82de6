"""Recipes: all settings of a training except the supernet, the data and the seed, as validated YAML files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from .. import registry
from ..errors import UserError
from ..exits.weights import STRATEGIES
from ..phases.base import PhaseStep, StepSettings
from ..plugin import PluginError, PluginRef, describe_reference, parse_reference, to_reference
from ..utils.yaml_files import Override, StrictModel, find_data_file, load_model

FOLDER = Path(__file__).parent


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


def _registered_phase(name: str) -> str:
    if name not in registry.names(registry.PHASES):
        raise ValueError(f"unknown phase; registered phases: {', '.join(registry.names(registry.PHASES))}")
    return name


def plugin_field(namespace: str) -> Any:
    """Type of a field that names a plugin of `namespace`; validation loads it if `load_plugins` is set."""

    def check(plugin: Any, info: ValidationInfo) -> Any:
        if (info.context or {}).get("load_plugins"):
            _load(namespace, plugin)
        return plugin

    return Annotated[PluginRef, AfterValidator(check)]


def _load(namespace: str, plugin: Any, field: str = "") -> None:
    """Load a plugin; an error about one of its settings names the setting as a part of the field."""
    try:
        registry.load(namespace, plugin)
    except PluginError as error:
        if error.setting is None:
            raise
        details = {"problem": str(error), "field": field + error.setting}
        raise PydanticCustomError("plugin", "{problem}", details) from error


def distinct(values: list[int]) -> list[int]:
    """A validator: raises an error that names a value which occurs twice."""
    repeated = sorted({value for value in values if values.count(value) > 1})
    if repeated:
        raise PydanticCustomError(
            "repeated", "must be different from each other, but got {value} twice", {"value": repeated[0]}
        )
    return values


# Strict: by default pydantic accepts true as 1.
Count = Annotated[int, Field(strict=True, ge=1)]
Resolutions = Annotated[list[Count], Field(min_length=1), AfterValidator(distinct)]
BatchSize = Annotated[int, Field(strict=True, ge=2)]  # a batch norm needs two values
Number = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(_no_boolean)]
# Not derived from Number, because limits after the validator are missing from the JSON schema.
Positive = Annotated[float, Field(allow_inf_nan=False, gt=0), BeforeValidator(_no_boolean)]
AtLeast0 = Annotated[float, Field(allow_inf_nan=False, ge=0), BeforeValidator(_no_boolean)]
WidthMult = Annotated[float, Field(allow_inf_nan=False, gt=0, le=100), BeforeValidator(_no_boolean)]
BelowOne = Annotated[float, Field(allow_inf_nan=False, ge=0, lt=1), BeforeValidator(_no_boolean)]
Fraction = Annotated[float, Field(allow_inf_nan=False, gt=0, lt=1), BeforeValidator(_no_boolean)]
PhaseName = Annotated[str, AfterValidator(_registered_phase)]
ExitWeightsValue = Annotated[
    Annotated[Literal["ASC", "DESC", "UNIF"], Tag("<strategy>")] | Annotated[list[AtLeast0], Tag("<weights>")],
    Discriminator(lambda value: "<weights>" if isinstance(value, (list, tuple)) else "<strategy>"),
]


class StepRecipe(StrictModel):
    """One step of a phase; omitted fields take the phase's defaults (the paper's values)."""

    epochs: Count | None = None
    """Epochs of the cosine schedule."""
    lr: Positive | None = None
    """Learning rate at the start of the schedule."""
    warmup_epochs: Annotated[int, Field(strict=True, ge=0)] | None = None
    """Epochs at the constant learning rate before the schedule, on top of `epochs`."""
    subnets_per_step: Count | None = None
    """Subnets per batch whose losses are summed."""
    dropout: BelowOne | None = None
    """Dropout rate before each classifier."""


def _phase_form(value: Any) -> str:
    if isinstance(value, (list, PhaseRecipe)):
        return "<phase>" if isinstance(value, PhaseRecipe) else "<steps>"
    return "<phase>" if isinstance(value, Mapping) and set(value) & set(PhaseRecipe.model_fields) else "<step>"


OneStep = Annotated[StepRecipe, Tag("<step>")]
EveryStep = Annotated[list[StepRecipe], Tag("<steps>")]


def _phase_schema(schema: dict[str, Any]) -> None:
    """Add the short form, in which the fields of a single step are next to `settings`, to the JSON schema."""
    fields = StepRecipe.model_json_schema()["properties"]
    schema.update(properties={**schema["properties"], **fields}, additionalProperties=False)
    schema["anyOf"] = [{"required": ["settings"]}, {"required": ["steps"]}]  # neither: the mapping of a step


class PhaseRecipe(StrictModel):
    """A phase with settings for its plugin and the recipe of its steps."""

    model_config = ConfigDict(json_schema_extra=_phase_schema)

    @model_validator(mode="before")
    @classmethod
    def _flat(cls, value: Any) -> Any:
        """Accept the fields of a single step next to `settings`."""
        if isinstance(value, Mapping) and "steps" not in value:
            fields = {key: entry for key, entry in value.items() if key != "settings"}
            return {"settings": value.get("settings", {}), "steps": fields}
        return value

    settings: dict[str, Any] = {}
    """Settings of the phase's plugin."""
    steps: Annotated[OneStep | EveryStep, Discriminator(_phase_form)] = StepRecipe()
    """One mapping for all steps of the phase, or a list with one mapping per step."""


def _exit_weights_schema(schema: dict[str, Any]) -> None:
    """Add the name of a strategy, alone or as `name`, to the JSON schema."""
    name = {"enum": list(STRATEGIES), "description": "A strategy, which sets both weights."}
    both = {**schema, "properties": {"name": name, **schema["properties"]}, "additionalProperties": False}
    schema.clear()
    schema["anyOf"] = [name, both]


class ExitWeights(StrictModel):
    """Weights of the exits: for the losses of the full phase and for the output of the exit ensemble."""

    model_config = ConfigDict(json_schema_extra=_exit_weights_schema)

    loss: ExitWeightsValue = "ASC"
    """Weights of the exits in the loss of the full phase, first exit first, or a strategy."""
    output: ExitWeightsValue = "ASC"
    """Weights of the exits in the ensemble of all exits, first exit first, or a strategy."""

    @model_validator(mode="before")
    @classmethod
    def _strategy(cls, value: Any) -> Any:
        """The name of a strategy sets both; `{name: ..., loss: ...}` sets both, then replaces one."""
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, Mapping) or "name" not in value:
            return value
        changes = dict(value)
        if (name := changes.pop("name")) not in STRATEGIES:
            raise ValueError(f"must be one of {list(STRATEGIES)} or {{loss: ..., output: ...}}")
        loss, output = STRATEGIES[name]
        return {"loss": loss, "output": output, **changes}


def _check_augmentations(value: Any, info: ValidationInfo) -> Any:
    for i, plugin in enumerate(value if isinstance(value, list) else [value]):
        parse_reference(plugin)
        if (info.context or {}).get("load_plugins"):
            _load(registry.AUGMENTATIONS, plugin, f"{i}." if isinstance(value, list) else "")
    return value


def _augmentation_references(value: Any) -> Any:
    return [to_reference(plugin) for plugin in value] if isinstance(value, list) else to_reference(value)


Augmentations = Annotated[Any, BeforeValidator(_check_augmentations), PlainSerializer(_augmentation_references)]
"""One augmentation or a list of them, applied in order; an empty list only resizes."""


def _default_optimizer(value: Any) -> Any:
    """Settings without a name are those of the default optimizer."""
    return {"name": "sgd", **value} if isinstance(value, Mapping) and "name" not in value else value


OptimizerField: Any = Annotated[
    plugin_field(registry.OPTIMIZERS),
    BeforeValidator(_default_optimizer),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object"}]}),
]


class Evaluation(StrictModel):
    """Settings for measuring subnets.

    `max_subnets` limits the networks measured after each step, `final_trunks` those after the last one, where every
    height of a trunk is measured. `latency_batch` also measures the latency of each subnet on a batch of that size;
    do not combine it with `--workers`, because processes on the same machine disturb the measurement.
    """

    batch_size: BatchSize = 200
    """Images per batch."""
    bn_images: BatchSize = 1000
    """Number of training images for batch-norm recalibration."""
    selection_draws: Count = 32
    """Number of random subnets whose mean validation accuracy selects the best epoch."""
    max_subnets: Count | None = None
    """Maximum number of subnets measured after each step; empty: the whole grid."""
    final_trunks: Count | None = None
    """Maximum number of trunks measured after the last step, each at all of its exits; empty: the whole grid."""
    latency_batch: Count | None = None
    """Batch size at which the latency of every subnet is measured; empty: no latency."""


class Recipe(StrictModel):
    """All settings of a training. `paper.yaml` has the published values.

    `idle_parameters` sets how an optimizer step treats a parameter without a gradient: `keep` skips it; `momentum` uses
    a zero gradient once the parameter has had one, so the optimizer's momentum and weight decay still move it.

    `sync_batch_norm` matters under torchrun only: batch norms then use the statistics of the whole batch instead of
    those of each process's part, so that the number of processes does not change the training.
    """

    description: str = ""
    """One sentence for lists and reports."""
    width_mult: WidthMult = 1.0
    """Multiplier of all channels."""
    resolutions: Resolutions | None = None
    """Resolutions of the training images in pixels, one drawn per batch; empty: those of the dataset."""
    batch_size: BatchSize = 64
    """Images per optimizer step, over all processes together."""
    validation_fraction: Fraction = 0.15
    """Fraction of the training images of each class that is held out for validation."""
    label_smoothing: BelowOne = 0.1
    """Label smoothing of the cross-entropy."""
    zero_last_gamma: Annotated[bool, Field(strict=True)] = False
    """Whether the last batch norm of each residual block is initialized with zero."""
    teacher: plugin_field(registry.TEACHERS) = "fixed"  # type: ignore[valid-type]
    """Teacher policy: a plugin of `ofav2.teachers`."""
    teacher_batch_statistics: bool = True
    """Whether the batch norms of the teacher use batch statistics, as in once-for-all, or running statistics."""
    distillation: plugin_field(registry.DISTILLATION) = "soft_ce"  # type: ignore[valid-type]
    """Distillation loss: a plugin of `ofav2.distillation`."""
    kd_ratio: AtLeast0 = 1.0
    """Weight of the distillation loss."""
    exit_weights: ExitWeights = ExitWeights()
    """Weights of the exits: the name of a strategy, or a mapping with `loss` and `output`."""
    optimizer: OptimizerField = "sgd"
    """Optimizer and learning-rate schedule: a plugin of `ofav2.optimizers`, or settings of `sgd`."""
    augmentation: Augmentations = "crop_flip"
    """A plugin of `ofav2.augmentations`, or a list of them, applied in order; an empty list only resizes."""
    idle_parameters: Literal["keep", "momentum"] = "keep"
    """Parameters without a gradient: skip them, or let momentum and weight decay update them."""
    sync_batch_norm: Annotated[bool, Field(strict=True)] = False
    """Under torchrun, batch norms use the statistics of the whole batch, not of each process's part."""
    evaluation: Evaluation = Evaluation()
    """How subnets are measured."""
    phases: dict[
        PhaseName, Annotated[OneStep | EveryStep | Annotated[PhaseRecipe, Tag("<phase>")], Discriminator(_phase_form)]
    ] = Field(min_length=1)
    """Phase -> one mapping for all of its steps, a list with one mapping per step, or `settings` and `steps`."""

    @property
    def augmentations(self) -> list[Any]:
        """The augmentations as a list of references to plugins, in the order of application."""
        return self.augmentation if isinstance(self.augmentation, list) else [self.augmentation]

    def plugin_changes(self) -> dict[str, Any]:
        """Name and all settings of the plugins (fields of the recipe) whose settings differ from a default recipe's."""
        changes: dict[str, Any] = {}
        for field, namespace in _PLUGIN_FIELDS.items():
            config = registry.config_of(namespace, getattr(self, field))
            if len(config) > 1 and config != registry.config_of(namespace, type(self).model_fields[field].default):
                changes[field] = config
        augmentations = [registry.config_of(registry.AUGMENTATIONS, plugin) for plugin in self.augmentations]
        if augmentations != [registry.config_of(registry.AUGMENTATIONS, "crop_flip")]:
            changes["augmentation"] = augmentations
        return changes

    @model_validator(mode="after")
    def _load_phases(self, info: ValidationInfo) -> Recipe:
        if (info.context or {}).get("load_plugins"):
            try:
                registry.load_all(registry.PHASES, self.phase_plugins)
            except UserError as error:
                raise PydanticCustomError("plugin", "{problem}", {"problem": str(error), "field": "phases"}) from error
        return self

    @property
    def phase_plugins(self) -> list[Any]:
        """References to the phases' plugins, with their settings."""
        return [
            {"name": name, **phase.settings} if isinstance(phase, PhaseRecipe) and phase.settings else name
            for name, phase in self.phases.items()
        ]

    def settings(self, phase: str, steps: Sequence[PhaseStep]) -> list[StepSettings]:
        """The settings of each step of a phase: the recipe's values, completed by the phase's defaults.

        Raises:
            UserError: The number of steps in the recipe differs from the phase's on this supernet.
        """
        given = self.phases[phase]
        given = given.steps if isinstance(given, PhaseRecipe) else given
        listed = given if isinstance(given, list) else [given] * len(steps)
        if len(listed) != len(steps):
            raise UserError(
                f"phases.{phase} must list {len(steps)} steps for this supernet, but got {len(listed)}; "
                "one mapping instead of a list applies to all of them"
            )
        return [
            StepSettings(**{**vars(step.defaults), **recipe.model_dump(exclude_none=True)})
            for step, recipe in zip(steps, listed, strict=True)
        ]

    @property
    def needs_teacher(self) -> bool:
        """Whether the distillation needs a teacher."""
        needed: bool = registry.load(registry.DISTILLATION, self.distillation).needs_teacher
        return needed

    def check_teacher_is_used(self, teacher: Any, prefix: str, remedy: str) -> None:
        """Refuse a teacher that was named next to a distillation that needs none.

        Args:
            teacher: The teacher that was named; None if none was.
            prefix: What stands before the teacher in the message.
            remedy: What the message advises.

        Raises:
            UserError: The teacher would not be used.
        """
        if teacher not in (None, "none") and not self.needs_teacher:
            raise UserError(
                f"{prefix} {describe_reference(teacher)} would not be used: distillation must be one that needs a "
                f"teacher, but got {describe_reference(self.distillation)}; {remedy}"
            )

    def with_phases(self, names: Sequence[str]) -> Recipe:
        """The recipe restricted to these phases. Raises UserError for a repeated or unknown phase."""
        if len(set(names)) < len(names):
            raise UserError(f"phases must be distinct, but got {', '.join(names)}")
        unknown = [name for name in names if name not in self.phases]
        if unknown:
            raise UserError(f"phases must be among {', '.join(self.phases)}, but got {unknown[0]!r}")
        return self.model_copy(update={"phases": {n: v for n, v in self.phases.items() if n in names}})


_PLUGIN_FIELDS = {
    "teacher": registry.TEACHERS,
    "distillation": registry.DISTILLATION,
    "optimizer": registry.OPTIMIZERS,
}


def recipe_names() -> list[str]:
    """The recipes that ship with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_recipe(name: str, overrides: Sequence[Override] = (), load_plugins: bool = True) -> Recipe:
    """A recipe by name or by path to a .yaml file, with `key.sub=value` overrides.

    Args:
        name: Name of a recipe that ships with the package, or a path.
        overrides: Fields that differ from the file.
        load_plugins: Whether to load its plugins, which checks their names and settings.

    Raises:
        UserError: The recipe does not exist or is not valid; names the file, the line and the field.
    """
    return load_model(find_data_file("recipe", name, FOLDER), Recipe, overrides, load_plugins=load_plugins)
