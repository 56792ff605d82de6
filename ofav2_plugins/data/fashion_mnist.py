"""Dataset `fashion-mnist`: Zalando's 70,000 photographs of clothes (arXiv 1708.07747, MIT), from IDX files."""

from __future__ import annotations

from pathlib import Path

from ..errors import UserError
from .base import Dataset, DataSplits, Split, existing_folder, make_splits
from .idx import find_idx, read_idx

CLASS_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")


class FashionMNIST(Dataset):
    """Fashion-MNIST in full: 60,000 training and 10,000 test photographs of clothes, from IDX files."""

    def load(self, root: Path | None = None, *, validation_fraction: float = 0.15, seed: int = 0) -> DataSplits:
        if root is None and DEBIAN_FOLDER.is_dir():
            root = DEBIAN_FOLDER
        hint = "the four IDX files of Fashion-MNIST (Debian: apt install dataset-fashion-mnist)"
        parts = read_folder(existing_folder(root, self.name, hint))
        return fashion_splits(self.name, *parts, validation_fraction, seed)


def fashion_splits(name: str, train: Split, test: Split, validation_fraction: float, seed: int) -> DataSplits:
    """`make_splits` of images [N, 1, 28, 28] in Fashion-MNIST's classes."""
    return make_splits(
        name,
        train,
        test,
        class_names=CLASS_NAMES,
        resolutions=(24, 28, 32),
        mean=(0.2860,) * 3,
        std=(0.3530,) * 3,
        validation_fraction=validation_fraction,
        seed=seed,
    )


def read_folder(root: Path) -> tuple[Split, Split]:
    """Training and test images [N, 1, 28, 28] of a folder of IDX files."""
    parts = []
    for part in ("train", "t10k"):
        images = read_idx(find_idx(root, f"{part}-images-idx3-ubyte"))
        labels = read_idx(find_idx(root, f"{part}-labels-idx1-ubyte"))
        if images.shape[1:] != (28, 28) or labels.shape != images.shape[:1]:
            raise UserError(
                f"{root}: {part} must have images [N, 28, 28] and N labels, but got {images.shape} and {labels.shape}"
            )
        parts.append(Split(images[:, None], labels.astype("int64")))
    return parts[0], parts[1]
