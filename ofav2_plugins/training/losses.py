"""The loss of the architectures of one optimizer step (OFAv2 section 3.4; AEP; BigNAS for in-place distillation)."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ..distillation.base import Distillation
from ..exits.weights import exit_weights
from ..models.supernet import Supernet
from ..recipes.schema import Recipe
from ..teachers.ensemble import weighted_sum


@dataclass(frozen=True)
class Objective:
    """Cross-entropy with the labels plus the distillation term.

    Args:
        recipe: Label smoothing, weight of the distillation, weights of the exits.
        distillation: The distillation term.
        multi_exit_loss: The loss is the weighted sum of the losses of all exits (AEP); a teacher teaches all of them.
        inplace_distillation: The first architecture of an optimizer step is trained with the labels, and the
            ensemble of its exits teaches the others, which do not use labels (BigNAS).
    """

    recipe: Recipe
    distillation: Distillation
    multi_exit_loss: bool = False
    inplace_distillation: bool = False

    def __call__(
        self, net: Supernet, images: Tensor, labels: Tensor, teacher_logits: Tensor | None, first: bool = True
    ) -> tuple[Tensor, Tensor | None]:
        """The loss (a scalar) of the active architecture, and the teacher logits for the next one of the step.

        Args:
            net: The supernet.
            images: [N, 3, R, R].
            labels: Class numbers [N], or the probability of each class [N, n_classes].
            teacher_logits: The teacher's logits [N, n_classes]; None without a teacher.
            first: Whether the architecture is the first of the optimizer step.
        """
        if self.multi_exit_loss or (self.inplace_distillation and first):
            exits = net.forward_exits(images)
            losses = [self._loss(logits, labels, teacher_logits) for logits in exits]
            if self.inplace_distillation:
                teacher_logits = weighted_sum(exits, exit_weights(self.recipe.exit_weights.output, len(exits))).detach()
            return weighted_sum(losses, exit_weights(self.recipe.exit_weights.loss, len(losses))), teacher_logits
        return self._loss(net(images), labels, teacher_logits), teacher_logits

    def _loss(self, logits: Tensor, labels: Tensor, teacher_logits: Tensor | None) -> Tensor:
        """The loss of one exit."""
        if teacher_logits is not None:
            term = self.recipe.kd_ratio * self.distillation.loss(logits, teacher_logits)
            if self.inplace_distillation:
                return term
        loss = F.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing)
        return loss if teacher_logits is None else loss + term
