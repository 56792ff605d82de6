"""An arm: one supernet trained by one recipe with one seed, and what its steps depend on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .. import registry
from ..errors import UserError
from ..models.pretrained import InitialWeights
from ..models.spec import resolve_spec
from ..models.supernet import Supernet, build_supernet
from ..recipes.schema import Recipe
from ..space import SearchSpace
from ..teachers.base import Teacher
from ..utils.seeding import forked_torch
from .plan import NONE, PlannedStep, make_plan


@dataclass(frozen=True)
class RunConfig:
    """One training of a study, or the one of `ofav2 train`.

    Args:
        name: What it is called in tables and charts.
        supernet: A variant's name or a composition; see `models.spec.resolve_spec`.
        recipe: The recipe, with the arm's own teacher, distillation and overrides in it.
        seed: Seed of everything random.
        initial: Weights to start from; None starts from fresh ones.
    """

    name: str
    supernet: Any
    recipe: Recipe
    seed: int
    initial: InitialWeights | None = None

    def to_dict(self) -> dict[str, Any]:
        """Everything that identifies the run, as JSON-able values."""
        return {
            "arm": self.name,
            "seed": self.seed,
            "supernet": self.supernet if isinstance(self.supernet, str) else resolve_spec(self.supernet).to_dict(),
            "init_from": self.initial.to_dict() if self.initial else None,
            "recipe": self.recipe.model_dump(exclude={"description"}),
        }

    def build(self, n_classes: int) -> Supernet:
        """The arm's supernet with fresh weights, the same for the same seed."""
        try:
            with forked_torch(self.seed, "init"):
                net = build_supernet(self.supernet, n_classes, width_mult=self.recipe.width_mult)
        except (RuntimeError, MemoryError, OverflowError) as error:  # sizes that torch cannot allocate or represent
            if isinstance(error, RuntimeError) and "memory" not in str(error) and "size" not in str(error):
                raise
            raise UserError(
                f"the supernet does not fit into memory with width_mult {self.recipe.width_mult:g} and {n_classes} "
                "classes; choose a smaller width_mult"
            ) from error
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
        teacher: Teacher = registry.load(registry.TEACHERS, self.recipe.teacher if asked else NONE)
        return teacher

    def plan(self, space: SearchSpace) -> list[PlannedStep]:
        """The arm's steps."""
        trained = self.initial.unlocked_dims(space) if self.initial else None
        return make_plan(space, self.recipe, self.teacher(), trained)
