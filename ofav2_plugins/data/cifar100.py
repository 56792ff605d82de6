"""Dataset `cifar100` (Krizhevsky 2009), read by torchvision."""

from __future__ import annotations

from .cifar10 import CIFAR10


class CIFAR100(CIFAR10):
    """CIFAR-100: 50,000 training and 10,000 test images of 32 pixels in 100 classes."""

    reader = "CIFAR100"
    mean, std = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
