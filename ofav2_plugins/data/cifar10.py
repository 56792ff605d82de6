"""Dataset `cifar10` (Krizhevsky 2009), read by torchvision."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import UserError
from .base import Dataset, DataSplits, Split, existing_folder, make_splits


class CIFAR10(Dataset):
    """CIFAR-10: 50,000 training and 10,000 test images of 32 pixels in 10 classes."""

    reader = "CIFAR10"
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)

    def load(self, root: Path | None = None, *, validation_fraction: float = 0.15, seed: int = 0) -> DataSplits:
        from torchvision import datasets

        reader = getattr(datasets, self.reader)
        hint = f"{reader.base_folder} of {self.reader} (unpack {reader.filename} from {reader.url})"
        folder = existing_folder(root, self.name, hint)
        try:
            parts = [reader(folder, train=train, download=False) for train in (True, False)]
        except (RuntimeError, OSError, EOFError) as error:
            raise UserError(f"{folder} must contain {hint}, but it is missing or damaged: {error}") from error
        train, test = (Split(p.data.transpose(0, 3, 1, 2), np.asarray(p.targets, dtype=np.int64)) for p in parts)
        return make_splits(
            self.name,
            train,
            test,
            class_names=parts[0].classes,
            resolutions=(24, 28, 32),
            mean=self.mean,
            std=self.std,
            validation_fraction=validation_fraction,
            seed=seed,
        )
