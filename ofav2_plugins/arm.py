"""An arm: one supernet trained by one recipe with one seed, and what its steps depend on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import registry
from .data.base import DataSplits
from .initial import InitialWeights
from .pipeline import NONE, PlannedStep, make_plan
from .recipes import Recipe
from .seeding import forked_torch
from .space import SearchSpace
from .supernet import Supernet, build_supernet
from .teachers.base import Teacher
from .variants import resolve_spec


@dataclass(frozen=True)
class Arm:
    """One training of a study, or the one of `ofav2 train`.

    Args:
        name: What it is called in tables and charts.
        supernet: A variant's name or a composition.
        recipe: The recipe, with the arm's own teacher, distillation and overrides in it.
        seed: Seed of everything random.
        initial: Weights to start from; None starts from fresh ones.
    """

    name: str
    supernet: str
    recipe: Recipe
    seed: int
    initial: InitialWeights | None = None

    def build(self, n_classes: int) -> Supernet:
        """The arm's supernet with fresh weights, the same for the same seed."""
        with forked_torch(self.seed, "init"):
            net = build_supernet(self.supernet, n_classes, width_mult=self.recipe.width_mult)
        if self.recipe.zero_last_gamma:
            net.zero_last_gamma()
        return net

    def start(self, n_classes: int) -> tuple[Supernet, list[str]]:
        """The arm's supernet as its training starts, and what of it the initial weights did not have."""
        net = self.build(n_classes)
        return net, self.initial.put_into(net) if self.initial else []

    def teacher(self) -> Teacher:
        """A new teacher of the arm's policy, not bound yet; nobody where the distillation asks nobody."""
        asked = registry.load(registry.DISTILLATION, self.recipe.distillation).needs_teacher
        return registry.load(registry.TEACHERS, self.recipe.teacher if asked else NONE)

    def plan(self, space: SearchSpace) -> list[PlannedStep]:
        """The arm's steps."""
        trained = self.initial.open_dims(space) if self.initial else None
        return make_plan(space, self.recipe, self.teacher(), trained)


def step_facts(arm: Arm, data: DataSplits, planned: PlannedStep, space: SearchSpace) -> dict[str, Any]:
    """What a trained step depends on besides the steps before it; what it does not use is left out."""
    recipe = arm.recipe
    teacher = type(arm.teacher())
    facts: dict[str, Any] = {
        "spec": resolve_spec(arm.supernet).to_dict(),
        "space": planned.space.to_dict(),
        "phase": planned.phase.name,
        "step": planned.step,
        "settings": vars(planned.settings),
        "seed": arm.seed,
        "data": data.fingerprint,
        "recipe": recipe.model_dump(
            include={
                "width_mult",
                "resolutions",
                "batch_size",
                "label_smoothing",
                "zero_last_gamma",
                "optimizer",
                "augmentation",
            }
        ),
        "selection": recipe.evaluation.model_dump(include={"bn_images", "selection_draws", "batch_size"}),
        "checkpoints": 1,  # raise it when a new version trains other weights from the same facts
    }
    if planned.phase.all_exits:
        facts["exit_weights"] = recipe.exit_weights.model_dump() if "height" in space else None
    if planned.teacher is not None or planned.phase.in_place:
        facts["distillation"] = recipe.model_dump(include={"distillation", "kd_ratio", "teacher_batch_statistics"})
        if (teacher.bind, teacher.logits) != (Teacher.bind, Teacher.logits):
            facts["teacher_policy"] = recipe.teacher  # it teaches in a way of its own; ours differ in the source alone
        facts["teacher_weights"] = recipe.exit_weights.model_dump() if "height" in space else None
    return facts
