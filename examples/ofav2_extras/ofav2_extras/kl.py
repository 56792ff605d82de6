"""Distillation `kl`: Kullback-Leibler divergence at a temperature (Hinton et al., arXiv 1503.02531)."""

import torch.nn.functional as F
from torch import Tensor

from ofav2_plugins.distillation.base import Distillation


class KullbackLeibler(Distillation):
    """Kullback-Leibler divergence from the teacher at a temperature, scaled by its square.

    Args:
        temperature: Both logits are divided by it; above 0.

    Raises:
        ValueError: `temperature` is not above 0.
    """

    def __init__(self, temperature: float = 4.0):
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, but got {temperature}")
        self.temperature = temperature

    def loss(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        t = self.temperature
        student, teacher = (student_logits / t).log_softmax(1), (teacher_logits / t).log_softmax(1)
        return t * t * F.kl_div(student, teacher, reduction="batchmean", log_target=True)
