"""Augmentation `cutmix`: CutMix (arXiv 1905.04899), by torchvision's CutMix."""

from __future__ import annotations

from torch import Tensor
from torchvision.transforms import v2

from ..utils.seeding import forked_torch
from .base import Augmentation, BatchContext, resize


class CutMix(Augmentation):
    """CutMix: a rectangle of each image replaced by that of another, labels mixed by area.

    The weight is drawn once for each batch, as in torchvision. With several ranks, images are mixed with others of the
    same rank; all ranks use the same weight.

    Args:
        alpha: Both parameters of the beta distribution of the weight.
    """

    def __init__(self, alpha: float = 1.0):
        if not alpha > 0:
            raise ValueError(f"alpha must be above 0, but got {alpha}")
        self.alpha = alpha

    def apply(self, images: Tensor, labels: Tensor, context: BatchContext) -> tuple[Tensor, Tensor]:
        """Mixed images at the batch's resolution, and probabilities [N, n_classes]."""
        transform = v2.CutMix(alpha=self.alpha, num_classes=context.n_classes)
        with forked_torch(*context.seed_parts):
            mixed: tuple[Tensor, Tensor] = transform(resize(images, context.resolution), labels)
            return mixed
