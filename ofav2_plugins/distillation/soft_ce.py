"""Distillation `soft_ce`: cross-entropy with the teacher's softmax (upstream's kd_type "ce")."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .base import Distillation


class SoftCrossEntropy(Distillation):
    """Cross-entropy with the teacher's softmax as soft label, averaged over the batch."""

    def loss(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        return F.cross_entropy(student_logits, teacher_logits.softmax(dim=1))
