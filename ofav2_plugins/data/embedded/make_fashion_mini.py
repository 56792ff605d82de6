"""Make fashion_mini.npz from the IDX files of Fashion-MNIST: python make_fashion_mini.py FOLDER [OUTPUT].

The file has the first 300 training and 100 test images of each class in file order, interleaved by class, so the
result is reproducible.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from ..base import Split
from ..fashion_mnist import read_folder


def first_of_each_class(split: Split, n: int) -> Split:
    """The first `n` images of each class, interleaved by class."""
    by_class = [np.flatnonzero(split.labels == label)[:n] for label in np.unique(split.labels)]
    return split.take(np.stack(by_class, axis=1).reshape(-1))


def main() -> None:
    """Read the given folder and write the file."""
    output = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).with_name("fashion_mini.npz")
    train, test = read_folder(Path(sys.argv[1]))
    train, test = first_of_each_class(train, 300), first_of_each_class(test, 100)
    np.savez_compressed(
        output,
        train_images=train.pixels(np.arange(len(train)))[:, 0],
        train_labels=train.labels.astype(np.uint8),
        test_images=test.pixels(np.arange(len(test)))[:, 0],
        test_labels=test.labels.astype(np.uint8),
    )


if __name__ == "__main__":
    main()
