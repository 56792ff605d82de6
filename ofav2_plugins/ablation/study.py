"""Studies: which arms are compared, on what, how often; validated YAML files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .. import registry
from ..errors import UserError
from ..recipes import Recipe, load_recipe
from ..run import Arm
from ..variants import resolve_spec
from ..yamlfile import find_data_file, load_model

FOLDER = Path(__file__).parent / "studies"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ArmSpec(_Strict):
    """One arm: a supernet, a teacher policy, and what else differs from the study's recipe."""

    name: str = Field(min_length=1)
    supernet: str
    teacher: str = "fixed"
    distillation: str | None = None
    factor: str = ""
    overrides: list[str] = []


class Study(_Strict):
    """A paired comparison of arms on one dataset with one recipe."""

    description: str = ""
    dataset: str
    recipe: str
    overrides: list[str] = []
    seeds: list[int] = Field([0], min_length=1)
    baseline: str
    arms: list[ArmSpec] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Study:
        names = [arm.name for arm in self.arms]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"arms must have distinct names, but {doubled[0]!r} is there twice")
        if self.baseline not in names:
            raise ValueError(f"baseline must be one of the arms {names}, but got {self.baseline!r}")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds must be distinct, but got {self.seeds}")
        return self


def study_names() -> list[str]:
    """The studies that ship with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_study(name: str) -> Study:
    """A study by name or by path to a .yaml file. Raises UserError with file, line and field."""
    return load_model(find_data_file("study", name, FOLDER), Study)


def study_arms(study: Study, overrides: Sequence[str] = ()) -> list[Arm]:
    """The study's arms, seed by seed, validated down to each plugin's name before anything trains.

    Raises:
        UserError: An unknown supernet, plugin or recipe field; names the arm.
    """
    registry.load(registry.DATASETS, study.dataset)
    arms = []
    for spec in study.arms:
        try:
            arms.append((spec.name, spec.supernet, arm_recipe(study, spec, overrides)))
        except UserError as error:
            raise UserError(f"arm {spec.name!r}: {error}") from error
    return [Arm(name, supernet, recipe, seed) for seed in study.seeds for name, supernet, recipe in arms]


def arm_recipe(study: Study, spec: ArmSpec, overrides: Sequence[str]) -> Recipe:
    """The study's recipe with the arm's own changes; its plugins are loaded to see that they exist."""
    own = [f"teacher={spec.teacher}"]
    if spec.distillation:
        own.append(f"distillation={spec.distillation}")
    recipe = load_recipe(study.recipe, [*study.overrides, *own, *spec.overrides, *overrides])
    check_plugins(spec.supernet, recipe)
    return recipe


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
