"""Contract of `ofav2.datasets`, and what datasets share: splits, fingerprints. No torch here."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..plugin import Plugin
from ..utils.seeding import derive_seed

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Split:
    """Labelled images: a view that leaves a memory map on the disk until `pixels` are read.

    Args:
        images: uint8 [M, C, S, S] (C is 1 or 3; possibly memory-mapped), shared between splits.
        labels: int64 [N], of the split's images alone.
        rows: [N], which of `images` are the split's; None: all of them, in order.
    """

    images: np.ndarray
    labels: np.ndarray
    rows: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> Split:
        """The split of these images, in this order."""
        return Split(self.images, self.labels[indices], indices if self.rows is None else self.rows[indices])

    def pixels(self, indices: np.ndarray) -> np.ndarray:
        """The images uint8 [len(indices), C, S, S] of the split that these indices name, read into memory."""
        return np.ascontiguousarray(self.images[indices if self.rows is None else self.rows[indices]])


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

    @property
    def side(self) -> int:
        """Width and height of the stored training images in pixels."""
        return self.train.images.shape[-1]


class Dataset(Plugin, ABC):
    """Where images come from."""

    @abstractmethod
    def load(self, root: Path | None = None, *, validation_fraction: float = 0.15, seed: int = 0) -> DataSplits:
        """The splits.

        Args:
            root: The folder the dataset is in; None where it needs none or has a usual place.
            validation_fraction: Share of the training images held out for validation, class by class; not used
                where the dataset has validation images of its own.
            seed: Chooses which.

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

    Where `validation` is given nothing is held out, and `validation_fraction` and `seed` are not used.

    Raises:
        UserError: One class only, a label without a class, a class with too few training images (2, or 1 where none
            is held out), no test or validation image.
    """
    _check(name, train, test, validation, class_names)
    if validation is None:
        kept, held_out = stratified_split(train.labels, validation_fraction, seed)
        fingerprint = _fingerprint((train, test), (kept, held_out), class_names)
        train, validation = train.take(kept), train.take(held_out)
    else:
        fingerprint = _fingerprint((train, test, validation), (), class_names)
    return DataSplits(
        name=name,
        train=train,
        validation=validation,
        test=test,
        class_names=tuple(class_names),
        resolutions=tuple(resolutions),
        mean=tuple(mean),
        std=tuple(std),
        fingerprint=fingerprint,
    )


def _check(name: str, train: Split, test: Split, validation: Split | None, class_names: Sequence[str]) -> None:
    n_classes = len(class_names)
    own = {"test": test} if validation is None else {"test": test, "validation": validation}
    if n_classes < 2:
        raise UserError(f"dataset {name!r} must have at least 2 classes, but got {list(class_names)}")
    for part, split in {"training": train, **own}.items():
        unknown = np.setdiff1d(split.labels, np.arange(n_classes)).tolist()
        if unknown:
            raise UserError(
                f"dataset {name!r}: the labels of its {part} images must be 0 to {n_classes - 1}, one per class, "
                f"but got {', '.join(map(str, unknown[:5]))}; fetch or build its files again"
            )
    counts = np.bincount(train.labels, minlength=n_classes)
    least = 2 if validation is None else 1
    for label in np.flatnonzero(counts < least).tolist():
        raise UserError(
            f"dataset {name!r}: class {class_names[label]!r} must have {least} or more training images, "
            f"but got {counts[label]}; add some or leave the class out"
        )
    for part, split in own.items():
        if len(split) == 0:
            raise UserError(
                f"dataset {name!r} must have at least 1 {part} image, but got none; fetch or build it again"
            )


def _fingerprint(splits: Sequence[Split], parts: Sequence[np.ndarray], class_names: Sequence[str]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for split in splits:
        digest.update(f"{split.images.dtype}{(len(split), *split.images.shape[1:])}".encode())
        for indices in np.split(np.arange(len(split)), range(256, len(split), 256)):  # a memory map is not read at once
            digest.update(split.pixels(indices).data)
        digest.update(f"{split.labels.dtype}{split.labels.shape}".encode() + split.labels.tobytes())
    for indices in parts:
        digest.update(f"{indices.dtype}{indices.shape}".encode() + indices.tobytes())
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


def choose_per_class(
    files: Sequence[tuple[Path, int]], per_class: int | None, class_names: Sequence[str], seed: int
) -> tuple[list[tuple[Path, int]], list[tuple[Path, int]]]:
    """Part (file, label) pairs into `per_class` random ones of each class and all others, both in the given order.

    With the same seed, a smaller number chooses a subset of what a larger one chooses. None chooses all.

    Raises:
        UserError: A class has fewer images.
    """
    if per_class is None:
        return list(files), []
    labels = np.array([label for _, label in files])
    chosen = np.zeros(len(files), dtype=bool)
    for label, name in enumerate(class_names):
        indices = np.flatnonzero(labels == label)
        if len(indices) < per_class:
            raise UserError(
                f"per_class must be at most the number of training images of every class, but got {per_class} and "
                f"class {name!r} has {len(indices)}"
            )
        chosen[np.random.default_rng(derive_seed(seed, "per_class", label)).permutation(indices)[:per_class]] = True
    return [files[i] for i in np.flatnonzero(chosen).tolist()], [files[i] for i in np.flatnonzero(~chosen).tolist()]


def check_per_class(per_class: int | None) -> None:
    """Raise ValueError unless `per_class` leaves images for training and for validation."""
    if per_class is not None and per_class < 2:
        raise ValueError(
            f"per_class must be at least 2, one image for training and one for validation, but got {per_class}"
        )


def existing_folder(root: Path | None, dataset: str, hint: str) -> Path:
    """`root`, checked. Raises UserError where it is missing or no folder; `hint` says what should be there."""
    if root is None:
        raise UserError(f"dataset {dataset!r} needs --root, the folder with {hint}")
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise UserError(f"dataset {dataset!r}: --root must be the folder with {hint}, but {root} {what}")
    return root
