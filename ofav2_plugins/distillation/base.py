"""Contract of `ofav2.distillation` (OFA section 3.3, OFAv2 section 3.4)."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from ..plugin import Plugin


class Distillation(Plugin, ABC):
    """The distillation term of the loss; the trainer adds the cross-entropy with the labels."""

    needs_teacher: bool = True

    @abstractmethod
    def loss(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """A scalar from the student's and the teacher's logits, both [N, n_classes]; the latter has no gradient."""
