"""Files that are written completely or not at all; JSON records with a digest."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from ..errors import DiskError, RunError
from .validation import short

DIGEST = "digest"
"""The key of a record's digest."""


def write_atomically(path: Path, content: bytes, previous: Path | None = None) -> None:
    """Write `content` to `path` so that at any moment the old file or the new one exists, never a partial one.

    Args:
        path: The file; its folder is created if it is missing.
        content: The whole content.
        previous: The path under which the old file is kept.

    Raises:
        DiskError: The disk is full or cannot be written; the old file is unchanged and no partial file is left.
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
    except BaseException as error:  # Ctrl-C must not leave a partial file either
        with contextlib.suppress(OSError):
            temporary.unlink()
        if not isinstance(error, OSError):
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskError(
                f"the disk is full: {path} could not be written ({len(content) / 2**20:.1f} MiB needed); "
                "the previous file is kept; free some space and run again with --resume"
            ) from error
        raise DiskError(f"{path} cannot be written: {error.strerror or error}") from error


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    write_atomically(path, (json.dumps(value, indent=1) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read JSON. Raises RunError, naming the file, if it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} is missing or damaged: {error}") from error


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a JSON object atomically, with a digest of its content under `digest`."""
    content = json.loads(json.dumps({key: value for key, value in record.items() if key != DIGEST}))
    write_json(path, {**content, DIGEST: content_digest(content)})


def read_record(path: Path, model: type[BaseModel] | None = None) -> dict[str, Any]:
    """Read what `write_record` wrote, without its digest.

    Args:
        path: The file.
        model: The schema of the record.

    Raises:
        RunError: The file is missing or damaged (one changed digit is enough), or does not fit the model; names the
            file and the field.
    """
    record = read_json(path)
    if not isinstance(record, dict):
        raise RunError(f"{path} is damaged: it must be a JSON object, but is a {type(record).__name__}")
    digest = record.pop(DIGEST, None)
    if digest is None:
        raise RunError(f"{path} is damaged: it has no digest")
    if digest != content_digest(record):
        raise RunError(f"{path} is damaged: its digest does not match its content")
    if model is not None:
        check_fields(path, record, model)
    return record


def check_fields(path: Path, record: Any, model: type[BaseModel]) -> None:
    """Raise RunError, naming the file and the field, if a record read from `path` does not fit a model."""
    try:
        model.model_validate(record)
    except ValidationError as error:
        first = error.errors()[0]
        field = re.sub(r"\.(\d+)", r"[\1]", ".".join(map(str, first["loc"]))) or "the whole"
        given = "" if first["type"] == "missing" else f", but got {short(first['input'])}"
        message = first["msg"].removeprefix("Value error, ")
        raise RunError(f"{path} is damaged: {field}: {message}{given}") from error


def content_digest(content: Mapping[str, Any]) -> str:
    """A digest of a JSON object that does not depend on the order of keys or on white space."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
