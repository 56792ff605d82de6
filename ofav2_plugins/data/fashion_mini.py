"""Dataset `fashion-mini`: a class-balanced subset of Fashion-MNIST that ships inside the package (MIT)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import UserError
from .base import Dataset, DataSplits, Split
from .fashion_mnist import fashion_splits

EMBEDDED = Path(__file__).parent / "embedded" / "fashion_mini.npz"


class FashionMini(Dataset):
    """3,000 training and 1,000 test photographs of clothes, embedded in the package; needs no files."""

    def load(self, root: Path | None = None, *, validation_fraction: float = 0.15, seed: int = 0) -> DataSplits:
        if root is not None:
            raise UserError(
                "fashion-mini takes no --root, it is part of the package; did you mean --dataset image-folder?, "
                f"but got --root {root}"
            )
        return fashion_splits(self.name, *read_embedded(EMBEDDED), validation_fraction, seed)


def read_embedded(path: Path) -> tuple[Split, Split]:
    """Training and test split of the embedded file. Raises UserError if it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            parts = [
                Split(arrays[f"{part}_images"][:, None], arrays[f"{part}_labels"].astype("int64"))
                for part in ("train", "test")
            ]
    except Exception as error:  # zipfile, zlib, numpy and tokenize raise different ones if it is damaged
        raise UserError(f"{path} is missing or damaged ({error}); install ofav2-plugins again") from error
    return parts[0], parts[1]
