"""Studies as validated YAML files: the compared arms, the data and the seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from .. import registry
from ..errors import UserError
from ..models.spec import resolve_spec
from ..plugin import PluginRef
from ..recipes.schema import Recipe, distinct, load_recipe, plugin_field
from ..search.settings import EXPECTED, SearchSettings
from ..training.run_config import RunConfig
from ..utils.yaml_files import Override, StrictModel, find_data_file, load_model, overlap, override_key, override_text

FOLDER = Path(__file__).parent / "studies"


Seeds = Annotated[list[Annotated[int, Field(strict=True)]], Field(min_length=1), AfterValidator(distinct)]


def _resolvable(supernet: Any) -> Any:
    resolve_spec(supernet)
    return supernet


SupernetField = Annotated[Any, AfterValidator(_resolvable)]


class ArmSpec(StrictModel):
    """One arm: a supernet and its changes to the study's recipe. Its seeds must be among the study's seeds.

    `exit_weights` is the name of a strategy or `{loss: ..., output: ...}`, as in a recipe. `factor` describes, for the
    report, how the arm differs from the baseline.
    """

    name: str = Field(min_length=1)
    """Name of the arm in tables and charts."""
    supernet: SupernetField
    """A name (SE_B ... EE_DP), or a mapping with `backbone`, `branches`, `skip` and `exits`."""
    teacher: PluginRef | None = None
    """Teacher policy; empty: the recipe's."""
    distillation: PluginRef | None = None
    """Distillation loss; empty: the recipe's."""
    exit_weights: Any = None
    """Exit weights: the name of a strategy, or a mapping with `loss` and `output`; empty: the recipe's."""
    factor: str = ""
    """How the arm differs from the baseline, for the report."""
    overrides: list[str] = []
    """Overrides of the recipe for this arm, such as `phases.full.epochs=3`."""
    seeds: Seeds | None = None
    """Seeds of this arm; empty: the study's."""


class StudySearch(SearchSettings):
    """Settings of `ofav2 search` for searching every arm after its last step.

    The default `budgets` are 25 %, 50 % and 100 % of the baseline's largest cost.
    """

    @model_validator(mode="after")
    def _comparable(self) -> StudySearch:
        if wrong := sorted(self.metrics & {*EXPECTED, "latency_ms"}):
            raise ValueError(f"a study cannot search by {wrong[0]}; use macs, params or memory, or `ofav2 search`")
        if self.cost is None:
            raise ValueError(f"objectives must include a cost (macs, params or memory), but got {self.objectives}")
        return self


class Study(StrictModel):
    """A paired comparison of arms on one dataset with one recipe."""

    description: str = ""
    """One or two sentences for the report."""
    dataset: plugin_field(registry.DATASETS)  # type: ignore[valid-type]
    """Dataset: a plugin of `ofav2.datasets`."""
    recipe: str
    """A recipe that ships with the package, or a path relative to this file."""
    overrides: list[str] = []
    """Overrides of the recipe for all arms, such as `phases.full.epochs=3`."""
    seeds: Seeds = [0]
    """Seeds; every arm is trained once per seed."""
    baseline: str
    """Name of the arm with which the others are compared."""
    arms: list[ArmSpec] = Field(min_length=1)
    """The arms to compare."""
    search: StudySearch | None = None
    """Settings for searching every arm after its last step; empty: no search."""

    @property
    def about(self) -> dict[str, Any]:
        """The study's description and factors, for the results and the report."""
        factors = {arm.name: arm.factor for arm in self.arms if arm.factor}
        return {"description": self.description, "factors": factors}

    @model_validator(mode="after")
    def _consistent(self) -> Study:
        names = [arm.name for arm in self.arms]
        duplicated = sorted({name for name in names if names.count(name) > 1})
        if duplicated:
            raise ValueError(f"arms must have distinct names, but {duplicated[0]!r} is used more than once")
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
    """Load a study by name or by the path of a .yaml file. Recipe paths in the file are relative to it.

    Raises:
        UserError: The study does not exist or is not valid; names the file, the line and the field.
    """
    path = find_data_file("study", name, FOLDER)
    study = load_model(path, Study)
    if study.recipe.endswith((".yaml", ".yml")):
        study = study.model_copy(update={"recipe": str(path.parent / study.recipe)})
    return study


def study_arms(study: Study, overrides: Sequence[Override] = ()) -> list[RunConfig]:
    """The runs of a study, ordered by seed. Everything is validated, including the settings of each plugin.

    Raises:
        UserError: A supernet, plugin or recipe field is unknown, or an override contradicts an arm; names the arm.
    """
    registry.load(registry.DATASETS, study.dataset)
    if study.search is not None:
        registry.load(registry.SEARCHERS, study.search.searcher)
        registry.load(registry.PREDICTORS, study.search.predictor)
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


def arm_recipe(study: Study, spec: ArmSpec, overrides: Sequence[Override]) -> Recipe:
    """The study's recipe with the changes of an arm. Loads all plugins of the arm to validate them.

    Raises:
        UserError: The recipe or a plugin is wrong, or changes contradict each other.
    """
    named = {key: getattr(spec, key) for key in ("teacher", "distillation", "exit_weights")}
    own = [(key, value) for key, value in named.items() if value is not None]
    _check_contradictions(spec.overrides, own, "override {!r} contradicts the arm's own {!r}")
    _check_contradictions(overrides, [*own, *spec.overrides], "--set {!r} would undo {!r}, which defines the arm")
    check_supernet(spec.supernet)
    recipe = load_recipe(study.recipe, [*study.overrides, *own, *spec.overrides, *overrides])
    recipe.check_teacher_is_used(spec.teacher, "its teacher", "remove the teacher or the distillation")
    return recipe


def _check_contradictions(overrides: Sequence[Override], others: Sequence[Override], message: str) -> None:
    for override in overrides:
        for other in others:
            if overlap(override_key(override), override_key(other)):
                raise UserError(message.format(override_text(override), override_text(other)))


def check_supernet(supernet: Any) -> None:
    """Load every plugin that a supernet names. Raises UserError if one does not load."""
    resolve_spec(supernet).config()
