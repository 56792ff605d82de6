"""Distillation `kl`: Kullback-Leibler divergence at a temperature (Hinton et al., arXiv 1503.02531)."""

import torch.nn.functional as F
from torch import Tensor

from ofav2_plugins.distillation.base import Distillation


class KullbackLeibler(Distillation):
    """Kullback-Leibler divergence from the teacher at temperature 4, scaled by its square."""

    temperature = 4.0

    def loss(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        t = self.temperature
        student, teacher = (student_logits / t).log_softmax(1), (teacher_logits / t).log_softmax(1)
        return t * t * F.kl_div(student, teacher, reduction="batchmean", log_target=True)
