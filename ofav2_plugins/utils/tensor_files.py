"""Tensors with JSON metadata in a safetensors file, with a digest over both. Loading a file never executes code."""

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

FORMAT = "ofav2-checkpoint-2"

_HEADER = "ofav2"
"""The only key of the safetensors metadata, because several keys would be written in random order."""


def save_checkpoint(
    path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any], previous: Path | None = None
) -> None:
    """Write tensors and a JSON-able `meta` with a digest over both, atomically; see `write_atomically`.

    Equal tensors and metadata give equal bytes.
    """
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    described = json.loads(json.dumps({**meta, "format": FORMAT, "version": __version__}))
    header = json.dumps({"meta": described, "digest": tensors_digest(stored, described)}, sort_keys=True)
    write_atomically(path, safetensors.torch.save(stored, metadata={_HEADER: header}), previous)


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and meta of a checkpoint, verified.

    Raises:
        RunError: The file is missing, truncated, changed by a single bit, or not a checkpoint of this project.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(_HEADER, "{}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, safetensors.SafetensorError) as error:
        raise RunError(f"checkpoint {path} is missing, truncated or damaged: {error}") from error
    try:
        content = json.loads(header)
    except (ValueError, RecursionError):
        content = None
    meta = content.get("meta") if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise RunError(f"{path} is damaged or not a checkpoint of ofav2-plugins (format {FORMAT})")
    if content.get("digest") != tensors_digest(tensors, meta):
        raise RunError(f"checkpoint {path} is damaged: its digest does not match its content")
    return tensors, meta


def tensors_digest(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> str:
    """A digest over names, types, shapes and values of dense CPU tensors, and over JSON-able metadata."""
    digest = hashlib.blake2b(json.dumps(meta, sort_keys=True).encode(), digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
