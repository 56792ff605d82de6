"""Architectures in JSON files: an architecture itself, or an entry of a search's front. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import RunError, UserError
from ..space import Arch, SearchSpace
from ..utils.files import DIGEST, content_digest, read_json
from ..utils.validation import is_integer


def read_architecture(path: Path, entry: int | None = None) -> tuple[Arch, int | None]:
    """The architecture in a JSON file, and the resolution if the file names one.

    Args:
        path: `{"ks": ..., "e": ...}`, `{"arch": {...}, "resolution": ...}`, or the search.json of a search.
        entry: Number of an entry of the search's front, from 0.

    Raises:
        RunError: The file is missing or is not JSON.
        UserError: The content has another form, or `entry` does not fit; the message gives the expected form.
    """
    content = read_json(path)
    if isinstance(content, dict) and (digest := content.pop(DIGEST, None)) not in (None, content_digest(content)):
        raise RunError(
            f"{path} was damaged or edited: its {DIGEST} {digest!r} does not match its content; run the search again, "
            f"or remove the line {DIGEST!r} if the changes are intended"
        )
    if isinstance(content, dict) and isinstance(content.get("front"), list):
        front = content["front"]
        if entry is None:
            raise UserError(
                f"{path} has a front of {len(front)} architectures; choose one: --entry 0..{len(front) - 1}"
            )
        if not 0 <= entry < len(front):
            raise UserError(f"--entry must be in 0..{len(front) - 1}, the front of {path}, but got {entry}")
        content = front[entry]
    elif entry is not None:
        raise UserError(f"--entry {entry} needs the search.json of a search, but {path} has no front")
    resolution: Any = None
    if isinstance(content, dict) and "arch" in content:
        content, resolution = content["arch"], content.get("resolution")
    if not isinstance(content, dict) or not content:
        raise UserError(f'{path} must contain an architecture such as {{"ks": [...], "e": [...], "d": [...]}}')
    if resolution is not None and not (is_integer(resolution) and resolution > 0):
        raise UserError(f"{path}: resolution must be a number of pixels, but got {resolution!r}")
    return content, resolution


def parse_unlocked(space: SearchSpace, arch: Arch, source: Path) -> Arch:
    """An architecture in canonical form.

    Args:
        space: The trained part of the supernet's space.
        arch: The architecture as read; scalars broadcast, and omitted dimensions take their largest value.
        source: Its file, for the error message.

    Raises:
        UserError: The architecture is outside the space or its trained part; the message names the entry.
    """
    try:
        parsed = space.parse(arch)
    except ValueError as error:
        raise UserError(f"{source}: {error}") from error
    for dim in space.dims:
        choices = dim.choices(space.unlocked_values(dim.name))
        entries = [parsed[dim.name]] if dim.length is None else parsed[dim.name]
        for i, value in enumerate(entries):
            if value not in choices:
                position = dim.name if dim.length is None else f"{dim.name}[{i}]"
                raise UserError(
                    f"{source}: {position} must be among {choices}, the trained values, but got {value}; choose "
                    "another architecture or train the phase that unlocks it"
                )
    return parsed
