"""The IDX format of MNIST and Fashion-MNIST."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from ..errors import UserError


def read_idx(path: Path) -> np.ndarray:
    """The uint8 array in an IDX file, gzipped or not. Raises UserError, naming the file, where it is damaged."""
    try:
        content = gzip.open(path).read() if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} is missing or damaged ({error}); fetch it again") from error
    if content[:3] != b"\0\0\x08" or len(content) < 4:
        raise UserError(f"{path} is no IDX file of bytes: it starts with {content[:4]!r}; fetch it again")
    axes = content[3]
    if len(content) < 4 + 4 * axes:
        raise UserError(f"{path} is damaged: it ends within its header; fetch it again")
    shape = tuple(np.frombuffer(content, dtype=">u4", count=axes, offset=4).tolist())
    start = 4 + 4 * axes
    if len(content) - start != math.prod(shape):
        raise UserError(
            f"{path} is damaged: it must hold {math.prod(shape)} bytes of data, but got {len(content) - start}; "
            "fetch it again"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def find_idx(root: Path, name: str) -> Path:
    """The file `name` or `name`.gz in a folder. Raises UserError where there is neither."""
    for path in (root / name, root / f"{name}.gz"):
        if path.is_file():
            return path
    raise UserError(f"{root} must hold {name} or {name}.gz, but has neither")
