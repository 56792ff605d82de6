"""The folder of a run: whose it is, what it was made with, and whether this run may go on in it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from ..errors import RunError
from ..utils.files import read_json, write_json
from .provenance import current_provenance

ORPHANS_SECONDS = 60
"""How long workers of a process that was killed may take to notice, to save and to end."""


def open_run_folder(
    out: Path,
    kind: str,
    settings: dict[str, Any],
    fabric: Fabric,
    resume: bool,
    accept_changes: bool = False,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Make `out` this run's folder, or check that it is.

    Args:
        out: The folder.
        kind: The command, "train" or "ablate".
        settings: What makes it this run.
        fabric: The device and precision that it is computed with.
        resume: Whether it may hold this run already.
        accept_changes: Go on although other code, or on another device, began the run.
        details: What `open_run` needs besides the settings; the newest call's are kept.

    Raises:
        RunError: It holds something else, another run, this run begun by other code, or this run and `resume` is not
            asked for; nothing in it has changed then.
    """
    mark = out / "run.json"
    if out.exists() and not out.is_dir():
        raise RunError(f"--out must be a folder, but {out} is a file")
    if mark.exists():
        try:
            held = read_json(mark)
        except RunError as error:
            raise RunError(f"{error}; choose another --out; steps copied into its steps/ are found again") from error
        if not (isinstance(held, dict) and "kind" in held and isinstance(held.get("settings"), dict)):
            raise RunError(f"{out} is not empty and its run.json is no run of ofav2; choose another --out")
        if held.get("kind") != kind:
            raise RunError(
                f"{out} holds a run of `ofav2 {held.get('kind')}`, not of `ofav2 {kind}`; choose another --out"
            )
        changed = difference(held["settings"], json.loads(json.dumps(settings)))
        if changed:
            raise RunError(f"{out} holds another run: {changed}; choose another --out or repeat the old settings")
        if not resume:
            raise RunError(f"{out} holds this run already; add --resume to continue it, or choose another --out")
        provenance = held.get("provenance", {})
        other = difference(provenance, {name: current_provenance(fabric).get(name) for name in provenance})
        if other and not accept_changes:
            by = f" by --threads {provenance['threads']}" if other.startswith("threads ") else ""
            raise RunError(
                f"{out} was begun otherwise: {other}; finished steps and new ones would not be of one making; "
                f"go back to what it was{by}, choose another --out, or add --accept-changes"
            )
        if held.get("details") != details:
            write_json(mark, {**held, "details": details})
        return
    if out.exists() and any(out.iterdir()):
        raise RunError(f"{out} is not empty and holds no run of ofav2; choose another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"--out {out} cannot be made: {error.strerror}") from error
    provenance = current_provenance(fabric)
    write_json(mark, {"kind": kind, "provenance": provenance, "settings": settings, "details": details})


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Within it no other process of this machine works in the folder, but this one's workers.

    Raises:
        RunError: Another one does; or workers of one that was killed do, and did not end within `ORPHANS_SECONDS`.
    """
    words = f"another process works in {out}; wait for it, or stop it"
    with _lock(out / ".lock", words):
        deadline = time.monotonic() + ORPHANS_SECONDS
        while True:
            try:
                with _lock(out / ".workers.lock", f"workers of a run that was killed still work in {out}; stop them"):
                    break
            except RunError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        yield


@contextmanager
def working_in(out: Path) -> Iterator[None]:
    """What a worker is in as long as it works in the folder."""
    with _lock(out / ".workers.lock", f"another process takes {out}; wait for it", shared=True):
        yield


@contextmanager
def _lock(path: Path, words: str, shared: bool = False) -> Iterator[None]:
    with open(path, "a+") as file:  # readable too, which network file systems want for a shared lock
        try:
            import fcntl
        except ImportError:  # Windows
            yield
            return
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            raise RunError(words) from error
        yield


def difference(held: Any, now: Any, where: str = "") -> str:
    """The first value in which two JSON values differ, in words; "" where they are equal."""
    if isinstance(held, dict) and isinstance(now, dict):
        for key in [*held, *(key for key in now if key not in held)]:
            found = difference(held.get(key), now.get(key), f"{where}.{key}" if where else str(key))
            if found:
                return found
        return ""
    if isinstance(held, list) and isinstance(now, list) and len(held) == len(now):
        pairs = enumerate(zip(held, now, strict=True))
        return next((d for i, pair in pairs if (d := difference(*pair, f"{where}.{i}"))), "")
    return "" if held == now else f"{where} was {held!r}, but got {now!r}"
