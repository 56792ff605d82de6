"""Files that are written completely or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from pathlib import Path
from typing import Any

from ..errors import DiskError, RunError


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
