"""Studies: which arms are compared, on what, how often; validated YAML files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from .. import registry
from ..errors import UserError
from ..models.spec import resolve_spec
from ..recipes.schema import Recipe, load_recipe
from ..training.run_config import RunConfig
from ..utils.yaml_files import find_data_file, load_model

FOLDER = Path(__file__).parent / "studies"


def _distinct(seeds: list[int]) -> list[int]:
    if len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds must be distinct, but got {seeds}")
    return seeds


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Seeds = Annotated[list[Annotated[int, Field(strict=True)]], Field(min_length=1), AfterValidator(_distinct)]


class ArmSpec(_Strict):
    """One arm: a supernet, and what else differs from the study's recipe; its own seeds must be among the study's.

    Exit weights are a strategy's name, or the recipe's `{loss: ..., output: ...}`.
    """

    name: str = Field(min_length=1)
    supernet: str
    teacher: str | None = None
    distillation: str | None = None
    exit_weights: str | dict[str, Any] | None = None
    factor: str = ""
    overrides: list[str] = []
    seeds: Seeds | None = None


class Study(_Strict):
    """A paired comparison of arms on one dataset with one recipe."""

    description: str = ""
    dataset: str
    recipe: str
    overrides: list[str] = []
    seeds: Seeds = [0]
    baseline: str
    arms: list[ArmSpec] = Field(min_length=1)

    @property
    def about(self) -> dict[str, Any]:
        """What results and report say of it."""
        factors = {arm.name: arm.factor for arm in self.arms if arm.factor}
        return {"description": self.description, "factors": factors}

    @model_validator(mode="after")
    def _consistent(self) -> Study:
        names = [arm.name for arm in self.arms]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"arms must have distinct names, but {doubled[0]!r} is there twice")
        if self.baseline not in names:
            raise ValueError(f"baseline must be one of the arms {names}, but got {self.baseline!r}")
        base = set(next(arm for arm in self.arms if arm.name == self.baseline).seeds or self.seeds)
        for arm in self.arms:
            if unknown := sorted(set(arm.seeds or []) - set(self.seeds)):
                raise ValueError(f"arm {arm.name!r}: seeds must be among {self.seeds}, but got {unknown[0]}")
            if not base & set(arm.seeds or self.seeds):
                raise ValueError(f"arm {arm.name!r} must share a seed with the baseline, which has {sorted(base)}")
        return self


def study_names() -> list[str]:
    """The studies that ship with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_study(name: str) -> Study:
    """A study by name or by path to a .yaml file; a recipe's path in it is relative to it.

    Raises:
        UserError: It does not exist or is not valid; names the file, the line and the field.
    """
    path = find_data_file("study", name, FOLDER)
    study = load_model(path, Study)
    if study.recipe.endswith((".yaml", ".yml")):
        study = study.model_copy(update={"recipe": str(path.parent / study.recipe)})
    return study


def study_arms(study: Study, overrides: Sequence[str] = ()) -> list[RunConfig]:
    """The study's arms, seed by seed, validated down to each plugin's name before anything trains.

    Raises:
        UserError: An unknown supernet, plugin or recipe field; names the arm.
    """
    registry.load(registry.DATASETS, study.dataset)
    arms = []
    for spec in study.arms:
        try:
            arms.append((spec, arm_recipe(study, spec, overrides)))
        except UserError as error:
            raise UserError(f"arm {spec.name!r}: {error}") from error
    fractions = {recipe.validation_fraction for _, recipe in arms}
    if len(fractions) > 1:
        raise UserError(f"all arms must have one validation_fraction (they share the splits), but got {fractions}")
    return [
        RunConfig(spec.name, spec.supernet, recipe, seed)
        for seed in study.seeds
        for spec, recipe in arms
        if spec.seeds is None or seed in spec.seeds
    ]


def arm_recipe(study: Study, spec: ArmSpec, overrides: Sequence[str]) -> Recipe:
    """The study's recipe with the arm's own changes; its plugins are loaded to see that they exist."""
    named = {key: getattr(spec, key) for key in ("teacher", "distillation", "exit_weights")}
    given = {key: value for key, value in named.items() if value is not None}
    own = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in given.items()]
    own += spec.overrides
    for override in overrides:
        key = override.partition("=")[0]
        if clash := next((o for o in own if _overlap(key, o.partition("=")[0])), None):
            raise UserError(f"--set {override!r} would undo {clash!r}, which makes the arm what it is")
    recipe = load_recipe(study.recipe, [*study.overrides, *own, *overrides])
    check_plugins(spec.supernet, recipe)
    return recipe


def _overlap(first: str, second: str) -> bool:
    return f"{first}.".startswith(f"{second}.") or f"{second}.".startswith(f"{first}.")


def check_plugins(supernet: str, recipe: Recipe) -> None:
    """Load every plugin that a supernet and a recipe name. Raises UserError for one that does not load."""
    parts = resolve_spec(supernet)
    for namespace, names in (
        (registry.BRANCHES, parts.branches),
        (registry.SKIPS, (parts.skip,)),
        (registry.EXITS, (parts.exits,)),
        (registry.TEACHERS, (recipe.teacher,)),
        (registry.DISTILLATION, (recipe.distillation,)),
        (registry.PHASES, tuple(recipe.phases)),
    ):
        for name in names:
            registry.load(namespace, name)
