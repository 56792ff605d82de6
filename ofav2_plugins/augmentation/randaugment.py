"""Augmentation `randaugment`: RandAugment (arXiv 1909.13719), by torchvision's RandAugment."""

from __future__ import annotations

from torch import Tensor
from torchvision.transforms import v2

from .base import Augmentation, BatchContext
from .per_image import transform_each


class RandAugment(Augmentation):
    """RandAugment: random colour and geometric operations of one strength.

    Args:
        num_ops: Number of operations for each image.
        magnitude: Their strength, 0 to num_magnitude_bins - 1.
        num_magnitude_bins: Number of strengths.
    """

    def __init__(self, num_ops: int = 2, magnitude: int = 9, num_magnitude_bins: int = 31):
        if num_ops < 1:
            raise ValueError(f"num_ops must be at least 1, but got {num_ops}")
        if num_magnitude_bins < 2 or not 0 <= magnitude < num_magnitude_bins:
            raise ValueError(
                f"magnitude must be 0 to num_magnitude_bins - 1, but got {magnitude} of {num_magnitude_bins} bins"
            )
        self.num_ops, self.magnitude, self.num_magnitude_bins = num_ops, magnitude, num_magnitude_bins

    def apply(self, images: Tensor, labels: Tensor, context: BatchContext) -> tuple[Tensor, Tensor]:
        """Transform each image separately; the labels are unchanged."""
        transform = v2.RandAugment(
            num_ops=self.num_ops, magnitude=self.magnitude, num_magnitude_bins=self.num_magnitude_bins
        )
        return transform_each(images, transform, context), labels
