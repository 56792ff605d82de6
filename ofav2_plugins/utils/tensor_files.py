"""Tensors with JSON metadata in a safetensors file, with a digest over both. Nothing in a file is executed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from .. import __version__
from ..errors import RunError
from .files import write_atomically

FORMAT = "ofav2-checkpoint-1"


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
