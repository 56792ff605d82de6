"""Reads the IDX files of MNIST and Fashion-MNIST by torchvision."""

from __future__ import annotations

import gzip
import shutil
import tempfile
import zlib
from pathlib import Path

import numpy as np

from ..errors import UserError

DAMAGED = (OSError, EOFError, zlib.error, AssertionError, ValueError, RuntimeError, LookupError)
"""Exceptions that gzip and torchvision's reader raise for damaged files."""


def read_idx(path: Path) -> np.ndarray:
    """The uint8 array in an IDX file, gzipped or not. Raises UserError, naming the file, if it is damaged."""
    from torchvision.datasets.mnist import read_sn3_pascalvincent_tensor

    try:
        with tempfile.TemporaryDirectory() as scratch:
            plain = path
            if path.suffix == ".gz":  # torchvision reads plain files only
                plain = Path(scratch) / "plain"
                with gzip.open(path) as packed, open(plain, "wb") as file:
                    shutil.copyfileobj(packed, file)
            array: np.ndarray = read_sn3_pascalvincent_tensor(str(plain)).numpy()
    except DAMAGED as error:
        problem = f": {error}" if str(error) else ""
        raise UserError(f"{path} is missing, damaged or not an IDX file{problem}; fetch it again") from error
    if array.dtype != np.uint8:
        raise UserError(f"{path} must be an IDX file of bytes, but got {array.dtype}; fetch it again")
    return array


def find_idx(root: Path, name: str) -> Path:
    """The file `name` or `name`.gz in a folder. Raises UserError if there is neither."""
    for path in (root / name, root / f"{name}.gz"):
        if path.is_file():
            return path
    raise UserError(f"{root} must have {name} or {name}.gz, but has neither")
