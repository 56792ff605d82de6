"""The loss of the architectures of one optimiser step (OFAv2 section 3.4; AEP; BigNAS for in-place distillation)."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from .distillation.base import Distillation
from .exit_weights import exit_weights
from .recipes import Recipe
from .supernet import Supernet
from .teachers.ensemble import weighted_sum


@dataclass(frozen=True)
class Objective:
    """Cross-entropy with the labels plus the distillation term.

    Args:
        recipe: Label smoothing, weight of the distillation, weights of the exits.
        distillation: The distillation term.
        all_exits: Sum over all exits of the architecture with the losses' exit weights (AEP), without a teacher.
        in_place: The step's first architecture is trained so, and its exits' ensemble teaches the others, which see
            no labels (BigNAS, in-place distillation).
    """

    recipe: Recipe
    distillation: Distillation
    all_exits: bool = False
    in_place: bool = False

    def __call__(
        self, net: Supernet, images: Tensor, labels: Tensor, taught: Tensor | None, first: bool = True
    ) -> tuple[Tensor, Tensor | None]:
        """The loss (a scalar) of the active architecture, and what teaches the next one of the step.

        Args:
            net: The supernet.
            images: [N, 3, R, R].
            labels: [N].
            taught: The teacher's logits [N, n_classes], or None where nobody teaches.
            first: Whether the architecture is the step's first.
        """
        if self.all_exits or (self.in_place and first):
            exits = net.forward_exits(images)
            losses = [self._labels_loss(logits, labels) for logits in exits]
            if self.in_place:
                taught = weighted_sum(exits, exit_weights(self.recipe.exit_weights.output, len(exits))).detach()
            return weighted_sum(losses, exit_weights(self.recipe.exit_weights.loss, len(losses))), taught
        logits = net(images)
        if taught is None:
            return self._labels_loss(logits, labels), None
        term = self.recipe.kd_ratio * self.distillation.loss(logits, taught)
        return (term if self.in_place else self._labels_loss(logits, labels) + term), taught

    def _labels_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing)
