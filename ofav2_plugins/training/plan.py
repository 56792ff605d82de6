"""The plan of a training: the phases that a supernet supports, in order, and their steps. Does not import torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

from .. import registry
from ..errors import UserError
from ..phases.base import Phase, PhaseStep, StepSettings
from ..plugin import PluginError
from ..recipes.schema import Recipe
from ..space import SearchSpace

if TYPE_CHECKING:
    from ..teachers.base import Teacher

NONE = "none"
INIT = "init"
"""Name of given initial weights in `starts_from` and `teacher`."""


@dataclass(frozen=True)
class PlannedStep:
    """One step of the plan.

    Args:
        phase: The phase that the step belongs to.
        step: Its number within the phase, from 1.
        n_steps: Number of steps of the phase.
        unlocks: The values that this step unlocks, by dimension.
        space: The unlocked space: the values of this step and of all earlier ones.
        settings: Epochs, learning rate and so on.
        starts_from: Name of the step whose best weights it starts from; None for fresh weights.
        teacher: Name of the teacher step; None if the step has no teacher.
    """

    phase: Phase
    step: int
    n_steps: int
    unlocks: Mapping[str, tuple[float, ...]]
    space: SearchSpace
    settings: StepSettings
    starts_from: str | None
    teacher: str | None

    @property
    def name(self) -> str:
        """ "kernel", or "height-3" if the phase has several steps."""
        return self.phase.name if self.n_steps == 1 else f"{self.phase.name}-{self.step}"

    def to_dict(self) -> dict[str, Any]:
        """The step as `ofav2 plan --json` prints it."""
        return {
            "phase": self.phase.name,
            "step": self.step,
            "opens": {dim: list(values) for dim, values in self.unlocks.items()},
            "epochs": self.settings.epochs,
            "warmup_epochs": self.settings.warmup_epochs,
            "lr": self.settings.lr,
            "subnets_per_step": self.settings.subnets_per_step,
            "starts_from": self.starts_from,
            "teacher": self.teacher or NONE,
            **({"settings": settings} if (settings := self.phase.settings) else {}),
        }


def ordered_phases(phases: Sequence[Any], space: SearchSpace) -> list[Phase]:
    """The phases among `phases` that the space supports, each after the phases in its `after`.

    Raises:
        UserError: A phase is unknown, or the order of the phases is cyclic.
    """
    supported: dict[str, Phase] = {}
    for name, phase in registry.load_all(registry.PHASES, phases).items():
        with registry.calling(registry.PHASES, name, "supports"):
            if phase.supports(space):
                supported[name] = phase
    order: TopologicalSorter[str] = TopologicalSorter()
    for name, phase in supported.items():
        order.add(name, *(before for before in phase.after if before in supported))
    try:
        order.prepare()
    except CycleError as error:
        raise UserError(f"the order of the phases is circular: {' after '.join(error.args[1])}") from error
    resolved = []
    while order.is_active():
        ready = sorted(order.get_ready(), key=list(supported).index)  # ties: the recipe's order
        resolved += [supported[name] for name in ready]
        order.done(*ready)
    return resolved


def make_plan(
    space: SearchSpace, recipe: Recipe, teacher: Teacher, trained: Mapping[str, tuple[float, ...]] | None = None
) -> list[PlannedStep]:
    """The steps of a training in order.

    Args:
        space: The supernet's whole space.
        recipe: Epochs, learning rates and so on, and which phases take part.
        teacher: The teacher policy.
        trained: The values, by dimension, that given initial weights were trained for; None for fresh weights. If no
            phase of the recipe unlocks a dimension, these values are unlocked from the start.

    Raises:
        UserError: No phase of the recipe is supported.
        PluginError: A phase unlocks values that the space does not have, or locks values of an earlier phase.
    """
    phases = {phase.name: (phase, _steps(phase, space)) for phase in ordered_phases(recipe.phase_plugins, space)}
    unlocked = {dim for _, steps in phases.values() for step in steps for dim in step.unlocks}
    unlocked_space = space.max_only().restrict(
        {d: values for d, values in (trained or {}).items() if d not in unlocked}
    )
    plan: list[PlannedStep] = []
    for phase, steps in phases.values():
        for number, (step, settings) in enumerate(zip(steps, recipe.settings(phase.name, steps), strict=True), start=1):
            try:
                for dim, values in step.unlocks.items():
                    if locked := set(unlocked_space.unlocked_values(dim)) - set(values):
                        raise UserError(f"it locks {dim} {sorted(locked)}, which an earlier phase unlocked")
                unlocked_space = unlocked_space.restrict(step.unlocks)
            except UserError as error:
                where = registry.title(registry.PHASES, phase.name)
                raise PluginError(f"{where} unlocks values that it must not: {error}") from error
            finished = ([INIT] if trained is not None else []) + [planned.name for planned in plan]
            plan.append(
                PlannedStep(
                    phase=phase,
                    step=number,
                    n_steps=len(steps),
                    unlocks=dict(step.unlocks),
                    space=unlocked_space,
                    settings=settings,
                    starts_from=finished[-1] if finished else None,
                    teacher=_source(teacher, finished) if phase.distills else None,
                )
            )
    if not plan:
        raise UserError(f"this supernet supports none of the recipe's phases: {', '.join(recipe.phases)}")
    return plan


def _steps(phase: Phase, space: SearchSpace) -> list[PhaseStep]:
    """The steps of a phase. Raises PluginError if they break the contract."""
    with registry.calling(registry.PHASES, phase.name, "steps"):
        steps = phase.steps(space)
    if not isinstance(steps, list) or not steps or not all(isinstance(step, PhaseStep) for step in steps):
        where = registry.title(registry.PHASES, phase.name)
        raise PluginError(f"{where}: steps() must return a list of PhaseStep, but got {steps!r:.100}")
    return steps


def _source(teacher: Teacher, finished: Sequence[str]) -> str | None:
    """The teacher step. Raises PluginError if it is not one of the finished steps."""
    with registry.calling(registry.TEACHERS, teacher.name, "source"):
        source = teacher.source(list(finished))
    if source is not None and source not in finished:
        raise PluginError(
            f"{registry.title(registry.TEACHERS, teacher.name)}: source() must return None or one of the finished "
            f"steps {list(finished)}, but got {source!r}"
        )
    return source
