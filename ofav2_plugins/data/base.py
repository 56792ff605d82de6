"""Contract of `ofav2.datasets`, and what datasets share: splits, fingerprints. No torch here."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..seeding import derive_seed

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Rows:
    """Some rows of an array that stays where it is: a split of a memory-mapped file is not copied into memory.

    Indexed, iterated and asked for its shape like the array `array[indices]`; only what is asked for is read.

    Args:
        array: Images uint8 [M, C, S, S], memory-mapped.
        indices: Which of them, int64 [N], in this order.
        digest: Hash of the whole array's content (hex), known to whoever opened the file.
    """

    def __init__(self, array: np.ndarray, indices: np.ndarray, digest: str):
        self.array = array
        self.indices = indices
        self.digest = digest

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, S, S)."""
        return (len(self.indices), *self.array.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        """That of the array."""
        return self.array.dtype

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: Any) -> np.ndarray:
        first, *rest = key if isinstance(key, tuple) else (key,)
        rows = np.asarray(self.array[self.indices[first]])
        return rows[(slice(None), *rest) if rows.ndim == self.array.ndim else tuple(rest)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.array[self.indices], dtype=dtype)

    def take(self, indices: np.ndarray) -> Rows:
        """Some of these rows, unread."""
        return Rows(self.array, self.indices[indices], self.digest)


@dataclass(frozen=True)
class Split:
    """Images uint8 [N, C, S, S] (C is 1 or 3), in memory or rows of a memory-mapped file, and labels int64 [N]."""

    images: np.ndarray | Rows
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> Split:
        """The split of these images, in this order."""
        images = self.images.take(indices) if isinstance(self.images, Rows) else self.images[indices]
        return Split(images, self.labels[indices])


@dataclass(frozen=True)
class DataSplits:
    """A dataset ready for training.

    Args:
        name: The plugin's name.
        train: What is trained on; batch norms are re-calibrated on it alone.
        validation: Held out of the training images; chooses epochs and subnets.
        test: Reported, never chosen by.
        class_names: One per label.
        resolutions: Default elastic resolutions in pixels.
        mean: Of each channel, for pixels in 0..1.
        std: Of each channel.
        fingerprint: Hash over all images, labels, class names and the split.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    resolutions: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)


class Dataset(ABC):
    """Where images come from."""

    name: str = ""

    @abstractmethod
    def load(
        self,
        root: Path | None = None,
        *,
        validation_fraction: float = 0.15,
        seed: int = 0,
        cache_dir: Path | None = None,
    ) -> DataSplits:
        """The splits.

        Args:
            root: The folder the dataset is in; None where it needs none or has a usual place.
            validation_fraction: Share of the training images held out for validation, class by class.
            seed: Chooses which.
            cache_dir: Where decoded images are kept; None for `$OFAV2_CACHE` or ~/.cache/ofav2. Datasets that
                need no decoding do not use it.

        Raises:
            UserError: Missing, damaged or unusable data; names the file and how to mend it.
        """


def make_splits(
    name: str,
    train: Split,
    test: Split,
    *,
    class_names: Sequence[str],
    resolutions: Sequence[int],
    mean: Sequence[float],
    std: Sequence[float],
    validation_fraction: float,
    seed: int,
    validation: Split | None = None,
) -> DataSplits:
    """Hold validation images out of `train`, check what training will need, and fingerprint it all.

    Where the dataset has a `validation` part of its own nothing is held out.

    Raises:
        UserError: One class only, a class without images, or too few images to hold any out.
    """
    if not 0 < validation_fraction < 1:
        raise UserError(f"the validation fraction must be between 0 and 1, but got {validation_fraction}")
    if len(class_names) < 2:
        raise UserError(f"dataset {name!r} must have at least 2 classes, but got {list(class_names)}")
    counts = np.bincount(train.labels, minlength=len(class_names))
    for label in np.flatnonzero(counts < 2).tolist():
        raise UserError(
            f"dataset {name!r}: class {class_names[label]!r} must have at least 2 training images, "
            f"but got {counts[label]}"
        )
    parts = [train.images, train.labels, test.images, test.labels]
    if validation is None:
        kept, held_out = stratified_split(train.labels, validation_fraction, seed)
        train, validation = train.take(kept), train.take(held_out)
        parts += [kept, held_out]
    else:
        parts += [validation.images, validation.labels]
    return DataSplits(
        name=name,
        train=train,
        validation=validation,
        test=test,
        class_names=tuple(class_names),
        resolutions=tuple(resolutions),
        mean=tuple(mean),
        std=tuple(std),
        fingerprint=_fingerprint(parts, class_names),
    )


def _fingerprint(parts: Sequence[np.ndarray | Rows], class_names: Sequence[str]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(f"{part.dtype}{part.shape}".encode())
        if isinstance(part, Rows):  # whoever decoded the file hashed it: a large one is not read again
            digest.update(part.digest.encode())
            part = part.indices
        for start in range(0, len(part), 4096):
            digest.update(np.ascontiguousarray(part[start : start + 4096]).data)
    digest.update("\n".join(class_names).encode())
    return digest.hexdigest()


def stratified_split(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices kept and indices held out, ascending; of each class the same share, at least one held out."""
    rng = np.random.default_rng(derive_seed(seed, "split"))
    held_out = []
    for label in np.unique(labels):
        indices = np.flatnonzero(labels == label)
        held_out.append(rng.permutation(indices)[: min(max(1, round(fraction * len(indices))), len(indices) - 1)])
    out = np.sort(np.concatenate(held_out))
    return np.setdiff1d(np.arange(len(labels)), out), out


def existing_folder(root: Path | None, dataset: str, hint: str) -> Path:
    """`root`, checked. Raises UserError where it is missing or no folder; `hint` says what should be there."""
    if root is None:
        raise UserError(f"dataset {dataset!r} needs --root, the folder with {hint}")
    try:
        with os.scandir(root):
            return root
    except FileNotFoundError:
        what = "does not exist"
    except NotADirectoryError:
        what = "is a file"
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
    raise UserError(f"dataset {dataset!r}: --root must be the folder with {hint}, but {root} {what}")
