"""Contract of `ofav2.datasets`; splits, checks and fingerprints for all datasets. Does not import torch."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import registry
from ..errors import UserError
from ..plugin import Plugin, PluginError
from ..utils.seeding import derive_seed
from ..utils.validation import is_integer, is_number
from .streamed import StreamedImages

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Split:
    """A view of labelled images; memory maps and files are read from disk only when `pixels` is called.

    Args:
        images: uint8 [M, C, S, S] (C is 1 or 3; possibly memory-mapped), or image files that are decoded each time they
            are read; shared between splits.
        labels: int64 [N], of the images of this split.
        rows: [N], indices of the split's images in `images`; None: all of them, in order.
    """

    images: np.ndarray | StreamedImages
    labels: np.ndarray
    rows: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, height and width of the images that `pixels` returns."""
        return self.images.shape[1:]

    def take(self, indices: np.ndarray) -> Split:
        """The split of these images, in this order."""
        return Split(self.images, self.labels[indices], self.stored(indices))

    def stored(self, indices: np.ndarray) -> np.ndarray:
        """Convert indices of the split to indices of `images`."""
        return indices if self.rows is None else self.rows[indices]

    def pixels(self, indices: np.ndarray) -> np.ndarray:
        """The split's images with these indices, uint8 [len(indices), C, S, S], read into memory."""
        return np.ascontiguousarray(self.images[self.stored(indices)])

    def joined(self, other: Split) -> Split:
        """The images of both splits; a copy of arrays in memory unless both are views of the same images."""
        labels = np.concatenate([self.labels, other.labels])
        parts = [(split, split.stored(np.arange(len(split)))) for split in (self, other)]
        (first, second), rows = (self.images, other.images), [rows for _, rows in parts]
        if first is second:
            return Split(first, labels, np.concatenate(rows))
        if isinstance(first, StreamedImages) and isinstance(second, StreamedImages):
            return Split(first.joined(second), labels, np.concatenate([rows[0], len(first) + rows[1]]))
        return Split(np.concatenate([split.images[rows] for split, rows in parts]), labels)


@dataclass(frozen=True)
class DataSplits:
    """A dataset ready for training.

    Args:
        name: The plugin's name.
        train: Training images; only these are used for batch-norm recalibration.
        validation: For selecting epochs and subnets; usually held out from the training images.
        test: For reported accuracies only.
        class_names: One per label.
        resolutions: Default elastic resolutions in pixels.
        mean: Mean of the three channels, for pixels in 0..1 (three equal values for grayscale images).
        std: Standard deviation of the three channels.
        fingerprint: Hash over all images (of streamed ones: names, sizes and a sample of the contents), labels, class
            names, mean and std, and the split.
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
        return self.train.shape[-1]


class Dataset(Plugin, ABC):
    """A source of labelled images."""

    @abstractmethod
    def load(self, root: Path | None = None, *, validation_fraction: float = 0.15, seed: int = 0) -> DataSplits:
        """The splits.

        Args:
            root: The dataset's folder; None if it needs none or has a default folder.
            validation_fraction: Fraction of each class's training images held out for validation; not used if the
                dataset has validation images of its own.
            seed: Seed for choosing the held-out images.

        Raises:
            UserError: The data are missing, damaged or unusable; names the file and the remedy.
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
    """Hold out validation images from `train`, check classes and labels, and compute the fingerprint.

    If `validation` is given, nothing is held out, and `validation_fraction` and `seed` are not used.

    Raises:
        UserError: There is only one class, a label has no class, a class has fewer than 2 training images (1 if none
            are held out), or there are no test or validation images.
    """
    _check(name, train, test, validation, class_names)
    if validation is None:
        kept, held_out = stratified_split(train.labels, validation_fraction, seed)
        fingerprint = _fingerprint((train, test), (kept, held_out), class_names, mean, std)
        train, validation = train.take(kept), train.take(held_out)
    else:
        fingerprint = _fingerprint((train, test, validation), (), class_names, mean, std)
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


def check_splits(data: object, name: str) -> DataSplits:
    """Check and return the splits from plugin `name`.

    Raises:
        PluginError: They break the contract; names the plugin, the split, the rule and the value.
    """
    title = registry.title(registry.DATASETS, name)
    if not isinstance(data, DataSplits):
        raise PluginError(f"{title}: load() must return DataSplits, but got {data!r}")

    def require(condition: bool, rule: str, value: object) -> None:
        if not condition:
            raise PluginError(f"{title}: {rule}, but got {value}")

    names = list(data.class_names)
    require(len(names) >= 2, "it must have at least 2 classes", names)
    require(isinstance(data.fingerprint, str), "the fingerprint must be a string", repr(data.fingerprint))
    sizes = list(data.resolutions)
    require(bool(sizes) and all(is_integer(r) and r > 0 for r in sizes), "resolutions must be positive integers", sizes)
    for what, values, low in (("mean", data.mean, -np.inf), ("std", data.std, 0.0)):
        wanted = "positive" if low == 0 else "finite"
        fits = len(values) == 3 and all(is_number(value) and value > low for value in values)
        require(fits, f"{what} must be three {wanted} numbers", tuple(values))
    for part in ("train", "validation", "test"):
        split = getattr(data, part)
        require(isinstance(split, Split), f"{part} must be a Split", repr(split))
        for rule, value in _broken_rules(split, data.n_classes, data.train):
            require(False, f"{part}: {rule}", value)
    return data


def _broken_rules(split: Split, n_classes: int, train: Split) -> Iterator[tuple[str, object]]:
    """The rules that a split breaks, the most basic first, each with the offending value."""
    images, labels, rows = split.images, split.labels, split.rows
    if not isinstance(images, (np.ndarray, StreamedImages)) or images.dtype != np.uint8:
        yield "images must be an array of uint8", getattr(images, "dtype", type(images).__name__)
    elif images.ndim != 4 or images.shape[2] != images.shape[3]:
        yield "images must be square, [N, C, S, S]", images.shape
    elif images.shape[1] not in (1, 3):
        yield "images must have 1 or 3 channels, [N, C, S, S]", images.shape
    elif split.shape != train.shape:
        yield f"images must have the shape {train.shape} of the training images", split.shape
    elif not isinstance(labels, np.ndarray) or labels.dtype != np.int64 or labels.ndim != 1:
        yield "labels must be int64 [N]", f"{getattr(labels, 'dtype', type(labels).__name__)} {np.shape(labels)}"
    elif len(labels) != len(images if rows is None else rows):
        yield f"there must be one label for each of {len(images if rows is None else rows)} images", len(labels)
    elif len(labels) == 0:
        yield "there must be at least 1 image", 0
    elif labels.min() < 0 or labels.max() >= n_classes:
        yield f"labels must be 0 to {n_classes - 1}, one per class", f"{labels.min()} to {labels.max()}"
    elif rows is not None and (rows.min() < 0 or rows.max() >= len(images)):
        yield f"rows must be 0 to {len(images) - 1}", f"{rows.min()} to {rows.max()}"


def _fingerprint(
    splits: Sequence[Split],
    parts: Sequence[np.ndarray],
    class_names: Sequence[str],
    mean: Sequence[float],
    std: Sequence[float],
) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for split in splits:
        digest.update(f"{split.images.dtype}{(len(split), *split.shape)}".encode())
        for content in _contents(split):
            digest.update(content)
        digest.update(f"{split.labels.dtype}{split.labels.shape}".encode() + split.labels.tobytes())
    for indices in parts:
        digest.update(f"{indices.dtype}{indices.shape}".encode() + indices.tobytes())
    digest.update("\n".join([*class_names, *map(repr, (*map(float, mean), *map(float, std)))]).encode())
    return digest.hexdigest()


def _contents(split: Split) -> Iterator[Any]:
    """The bytes of a split's images that the fingerprint depends on."""
    if isinstance(split.images, StreamedImages):
        yield from split.images.content(split.stored(np.arange(len(split))))
        return
    for indices in np.split(np.arange(len(split)), range(256, len(split), 256)):  # without reading a whole memory map
        yield split.pixels(indices).data


def stratified_split(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Kept and held-out indices, both ascending: the same fraction of each class, at least one image."""
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
    """Split (file, label) pairs into `per_class` random ones per class and the rest, both in the given order.

    With the same seed, a smaller number chooses a subset of a larger number's choice. None chooses all.

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
    """Check and return `root`. Raises UserError if it is not an existing folder; `hint` describes its content."""
    if root is None:
        raise UserError(f"dataset {dataset!r} needs --root, the folder with {hint}")
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise UserError(f"dataset {dataset!r}: --root must be the folder with {hint}, but {root} {what}")
    return root
