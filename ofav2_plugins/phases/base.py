"""Contract of `ofav2.phases` (OFAv2 section 3.3, extended progressive shrinking)."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..plugin import Plugin
from ..space import Arch, SearchSpace

if TYPE_CHECKING:
    from ..models.supernet import Supernet


@dataclass(frozen=True)
class StepSettings:
    """The training settings of a step.

    Args:
        epochs: Epochs of the cosine schedule.
        lr: Base learning rate.
        warmup_epochs: Epochs at the constant base rate before the cosine, on top of `epochs`.
        subnets_per_step: Architectures whose losses are summed in one optimizer step.
        dropout: Rate before each classifier.
    """

    epochs: int
    lr: float
    warmup_epochs: int = 0
    subnets_per_step: int = 1
    dropout: float = 0.1


@dataclass(frozen=True)
class PhaseStep:
    """One step of a phase: the values that it unlocks in its dimensions, and its defaults (the paper's values)."""

    unlocks: Mapping[str, tuple[float, ...]]
    defaults: StepSettings


class Phase(Plugin, ABC):
    """A phase declares the values that its steps unlock; epochs and learning rates come from the recipe."""

    after: tuple[str, ...] = ()
    """Names of the phases that precede this one, if the recipe has them."""
    distills: bool = True
    """Whether the phase uses a teacher."""
    multi_exit_loss: bool = False
    """Whether the loss is the weighted sum over all exits of the (one) architecture, as in AEP."""
    whole_grid: bool = True
    """Whether all values of the dimensions that a step unlocks are measured after it, not only the extremes."""
    inplace_distillation: bool = False
    """Whether the first architecture of an optimizer step is the teacher of the others, which use no labels."""
    selection_dims: tuple[str, ...] = ()
    """Dimensions whose unlocked values are all used to select the best epoch, not only the extremes."""

    def supports(self, space: SearchSpace) -> bool:
        """Whether the space has a dimension that this phase unlocks; must not raise."""
        return True

    @abstractmethod
    def steps(self, space: SearchSpace) -> list[PhaseStep]:
        """The steps, in order. A step's `unlocks` replaces the values unlocked earlier in the same dimension."""

    def prepare(self, net: Supernet, step: int) -> None:
        """Change the values of weights (not their names or shapes) before step `step` (1-based) starts.

        Not called again when a run resumes.
        """

    def archs(self, space: SearchSpace, rng: random.Random, n: int) -> list[Arch]:
        """The `n` architectures of one optimizer step, drawn from the unlocked values of `space`."""
        return [space.sample(rng) for _ in range(n)]


def one_by_one(values: Sequence[float]) -> list[tuple[float, ...]]:
    """Values unlocked one at a time from the largest: (2, 3, 4) gives [(3, 4), (2, 3, 4)]."""
    return [tuple(values[-n:]) for n in range(2, len(values) + 1)]


def phase_steps(dim: str, unlocked: Sequence[tuple[float, ...]], defaults: Sequence[StepSettings]) -> list[PhaseStep]:
    """Steps of one dimension; if there are more steps than defaults, the last default is repeated."""
    last = len(defaults) - 1
    return [PhaseStep({dim: values}, defaults[min(i, last)]) for i, values in enumerate(unlocked)]
