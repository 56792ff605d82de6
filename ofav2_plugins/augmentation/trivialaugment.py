"""Augmentation `trivialaugment`: TrivialAugment Wide (arXiv 2103.10158), by torchvision's TrivialAugmentWide."""

from __future__ import annotations

from torch import Tensor
from torchvision.transforms import v2

from .base import Augmentation, BatchContext
from .per_image import transform_each


class TrivialAugment(Augmentation):
    """TrivialAugment Wide: one random operation of random strength for each image.

    Args:
        num_magnitude_bins: Number of strengths that are drawn from.
    """

    def __init__(self, num_magnitude_bins: int = 31):
        if num_magnitude_bins < 2:
            raise ValueError(f"num_magnitude_bins must be at least 2, but got {num_magnitude_bins}")
        self.num_magnitude_bins = num_magnitude_bins

    def apply(self, images: Tensor, labels: Tensor, context: BatchContext) -> tuple[Tensor, Tensor]:
        """Transform each image separately; the labels are unchanged."""
        transform = v2.TrivialAugmentWide(num_magnitude_bins=self.num_magnitude_bins)
        return transform_each(images, transform, context), labels
