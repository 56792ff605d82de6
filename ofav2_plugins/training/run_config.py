"""A run: one arm with one seed, that is, one supernet trained with one recipe."""

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
    """The configuration of one run of a study, or of `ofav2 train`.

    Args:
        name: The name of the arm in tables and charts.
        supernet: A variant's name or a composition; see `models.spec.resolve_spec`.
        recipe: The recipe, including the arm's own teacher, distillation and overrides.
        seed: Seed of all random numbers.
        initial: Initial weights; None for fresh weights.
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
        """The supernet with fresh weights, which are the same for the same seed."""
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
        """The supernet with its initial weights, and notes on the parts that the initial weights did not contain."""
        net = self.build(n_classes)
        return net, self.initial.put_into(net) if self.initial else []

    def teacher(self) -> Teacher:
        """A new, unbound teacher; `NoTeacher` if the distillation needs none."""
        teacher: Teacher = registry.load(registry.TEACHERS, self.recipe.teacher if self.recipe.needs_teacher else NONE)
        return teacher

    def plan(self, space: SearchSpace) -> list[PlannedStep]:
        """The steps of the run on a search space."""
        trained = self.initial.unlocked_dims(space) if self.initial else None
        return make_plan(space, self.recipe, self.teacher(), trained)
