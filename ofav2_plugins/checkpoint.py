"""Files that survive: written whole or not at all, with a digest, and never executed when read (safetensors)."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from . import __version__
from .errors import DiskError, RunError

FORMAT = "ofav2-checkpoint-1"


def write_atomically(path: Path, content: bytes, previous: Path | None = None) -> None:
    """Write `content` to `path` so that at any moment there is the old file or the new one, never a part.

    Args:
        path: The file; its folder is made where it is missing.
        content: All of it.
        previous: Where the old file is kept.

    Raises:
        DiskError: The disk is full or cannot be written; the old file is untouched and no part is left.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            os.replace(path, previous)
        os.replace(temporary, path)
    except BaseException as error:  # Ctrl-C too must leave no part
        with contextlib.suppress(OSError):
            temporary.unlink()
        if not isinstance(error, OSError):
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskError(
                f"the disk is full: {path} could not be written ({len(content) / 2**20:.1f} MiB needed); "
                "what was there before is kept; free some space and run again with --resume"
            ) from error
        raise DiskError(f"{path} cannot be written: {error.strerror or error}") from error


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    write_atomically(path, (json.dumps(value, indent=1) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read JSON. Raises RunError, naming the file, where it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is missing or damaged: {error}") from error


def save_checkpoint(
    path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any], previous: Path | None = None
) -> None:
    """Write tensors and a JSON-able `meta` with a digest over both, atomically; see `write_atomically`."""
    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    described = json.dumps({**meta, "format": FORMAT, "version": __version__}, sort_keys=True)
    header = {"meta": described, "digest": _digest(held, described)}
    write_atomically(path, safetensors.torch.save(held, metadata=header), previous)


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and meta of a checkpoint, verified.

    Raises:
        RunError: The file is missing, truncated, changed by a single bit, or no checkpoint of this project.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, safetensors.SafetensorError) as error:
        raise RunError(f"checkpoint {path} is missing, truncated or damaged: {error}") from error
    described = header.get("meta", "{}")
    try:
        meta = json.loads(described)
    except ValueError:
        meta = None
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise RunError(f"{path} is damaged or no checkpoint of ofav2-plugins (format {FORMAT})")
    if header.get("digest") != _digest(tensors, described):
        raise RunError(f"checkpoint {path} is damaged: its digest does not match its content")
    return tensors, meta


def _digest(tensors: Mapping[str, Tensor], described: str) -> str:
    digest = hashlib.blake2b(described.encode(), digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
