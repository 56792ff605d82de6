"""JSON lines with one digest per line, which reveals lines that a killed process left incomplete."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import DiskError
from .files import write_atomically


def append_line(path: Path, record: Mapping[str, Any]) -> None:
    """Append a record to the file.

    Raises:
        DiskError: The disk is full or cannot be written.
    """
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(_line(record))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        full = "the disk is full; free some space and" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "then"
        raise DiskError(
            f"{path} cannot be written: {error.strerror or error}; {full} run again with --resume"
        ) from error


def read_lines(path: Path, say: Callable[[str], None] = lambda text: None) -> list[dict[str, Any]]:
    """All undamaged records of a file, in order; damaged lines are removed from it. A missing file has no records.

    Args:
        path: The file.
        say: Called with a message about damaged lines, except an incomplete last line left by a killed process.
    """
    records, damaged, complete = _parse(path)
    if damaged or not complete:
        write_atomically(path, "".join(map(_line, records)).encode())
        if damaged:
            say(f"{path}: {damaged} damaged {'line was' if damaged == 1 else 'lines were'} removed")
    return records


def damaged_lines(path: Path) -> int:
    """Number of damaged lines of a file, except an incomplete last line; the file is unchanged."""
    return _parse(path)[1]


def _parse(path: Path) -> tuple[list[dict[str, Any]], int, bool]:
    """The undamaged records, the number of damaged lines, and whether the last line is complete."""
    if not path.exists():
        return [], 0, True
    lines = path.read_bytes().decode("utf-8", errors="replace").splitlines(keepends=True)
    complete = not lines or lines[-1].endswith("\n")
    records = [record for line in lines if (record := _record(line)) is not None]
    return records, len(lines) - len(records) - (not complete), complete


def _line(record: Mapping[str, Any]) -> str:
    text = json.dumps(record, sort_keys=True)
    return json.dumps({"digest": _digest(text), "record": record}, sort_keys=True) + "\n"


def _record(line: str) -> dict[str, Any] | None:
    try:
        content = json.loads(line)
        record = content["record"]
        whole = line.endswith("\n") and content["digest"] == _digest(json.dumps(record, sort_keys=True))
    except (ValueError, KeyError, TypeError):
        return None
    return record if whole and isinstance(record, dict) else None


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
