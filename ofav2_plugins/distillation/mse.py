"""Distillation `mse`: squared difference of the logits (upstream's alternative to "ce")."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .base import Distillation


class MeanSquaredError(Distillation):
    """Mean squared difference between the student's and the teacher's logits."""

    def loss(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        return F.mse_loss(student_logits, teacher_logits)
