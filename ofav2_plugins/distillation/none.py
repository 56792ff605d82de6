"""Distillation `none`: no distillation. The null object."""

from __future__ import annotations

from torch import Tensor

from .base import Distillation


class NoDistillation(Distillation):
    """No distillation: training uses only the labels."""

    needs_teacher = False

    def loss(self, student_logits: Tensor, teacher_logits: Tensor | None = None) -> Tensor:
        return student_logits.new_zeros(())
