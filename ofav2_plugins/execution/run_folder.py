"""The folder of a run: the run's identity and provenance, and the lock of the process that works in it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict

from ..errors import RunError
from ..utils.files import check_fields, read_json, read_record, write_record
from ..utils.validation import short

RUN_FILE = "run.json"

ORPHANS_SECONDS = 60
"""Time for the workers of a killed process to save and exit."""

OWNER_FILE = ".owner"


class _RunFile(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    kind: str
    settings: dict[str, Any]
    provenance: dict[str, str]
    details: dict[str, Any] | None = None


def read_run_file(out: Path) -> dict[str, Any]:
    """The content of a run folder's run.json. Raises RunError if it is missing, damaged, or not a run file."""
    return read_record(out / RUN_FILE, _RunFile)


def open_run_folder(
    out: Path,
    kind: str,
    settings: dict[str, Any],
    provenance: dict[str, str],
    resume: bool,
    accept_changes: bool = False,
    details: Mapping[str, Any] | None = None,
) -> bool:
    """Create the folder of this run, or check that `out` already is its folder; returns True in the latter case.

    Args:
        out: The folder.
        kind: The command, "train" or "ablate".
        settings: The identity of the run: all inputs of its results.
        provenance: Versions, device and precision; see `current_provenance`.
        resume: Whether the folder may already contain this run.
        accept_changes: Continue even if the code or the device has changed, or if run.json is damaged.
        details: Additional fields for `open_run`; the values of the latest call are stored.

    Raises:
        RunError: The folder contains other files, another run, or this run, started with other code or without
            `resume`; the folder is unchanged.
    """
    if out.exists() and not out.is_dir():
        raise RunError(f"--out must be a folder, but {out} is a file")
    new: dict[str, Any] = {
        "kind": kind,
        "provenance": provenance,
        "settings": settings,
        "details": details,
    }
    if (out / RUN_FILE).exists():
        try:
            earlier = read_run_file(out)
        except RunError as error:
            if not (resume and accept_changes and _is_run_folder(out)):
                raise _unreadable(out, error) from error
            earlier = new
        _check_same_run(out, earlier, new)
        if not resume:
            raise RunError(f"{out} already contains this run; add --resume to continue it, or choose another --out")
        if not accept_changes:
            _check_same_code(out, earlier["provenance"], new["provenance"])
        if earlier is new or earlier.get("details") != details:
            write_record(out / RUN_FILE, {**earlier, "details": details})
        return True
    if out.exists() and any(out.iterdir()):
        raise RunError(f"{out} is not empty and contains no run of ofav2; choose another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"--out {out} cannot be created: {error.strerror}") from error
    write_record(out / RUN_FILE, new)
    return False


def _is_run_folder(out: Path) -> bool:
    """Whether a folder with a damaged run.json is a run folder."""
    return (out / "steps").is_dir()


def _unreadable(out: Path, error: RunError) -> RunError:
    if _is_run_folder(out):
        return RunError(
            f"{error}; --resume --accept-changes writes it again and continues with the finished steps, although the "
            "versions that computed them are no longer known; or choose another --out"
        )
    try:
        check_fields(out / RUN_FILE, read_json(out / RUN_FILE), _RunFile)
    except RunError:
        return RunError(f"{out} is not empty and its {RUN_FILE} is not that of a run of ofav2; choose another --out")
    return RunError(f"{error}; choose another --out")


def _check_same_run(out: Path, earlier: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    if earlier["kind"] != new["kind"]:
        raise RunError(
            f"{out} contains a run of `ofav2 {earlier['kind']}`, not of `ofav2 {new['kind']}`; choose another --out"
        )
    changed = difference(earlier["settings"], json.loads(json.dumps(new["settings"])))
    if changed:
        raise RunError(f"{out} contains another run: {changed}; choose another --out or use the earlier settings")


def _check_same_code(out: Path, earlier: Mapping[str, str], new: Mapping[str, str]) -> None:
    other = difference(earlier, {name: new.get(name) for name in earlier})
    if other:
        by = f" by --threads {earlier['threads']}" if other.startswith("threads ") else ""
        raise RunError(
            f"{out} was started differently: {other}; resuming would mix results of different code or hardware; "
            f"restore the earlier value{by}, choose another --out, or add --accept-changes"
        )


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Lock the folder against all other processes of this machine, except workers of this process.

    Workers that compare `owner` notice that their first process was killed and this one has taken over.

    Raises:
        RunError: Another process works in the folder, or workers of a killed one did not exit within
            `ORPHANS_SECONDS`.
    """
    with _exclusive(out / ".lock", 0, f"another process is working in {out}; wait for it or stop it"):
        with suppress(OSError):  # on a full disk the file becomes empty, which is another owner as well
            (out / OWNER_FILE).write_text(uuid.uuid4().hex)
        message = f"workers of a killed run are still working in {out}; stop them"
        with _exclusive(out / ".workers.lock", ORPHANS_SECONDS, message):
            pass
        yield


def owner(out: Path) -> str:
    """Identifies the process that has locked the folder most recently; "" if there was none."""
    try:
        return (out / OWNER_FILE).read_text()
    except FileNotFoundError:
        return ""


@contextmanager
def _exclusive(path: Path, seconds: float, message: str) -> Iterator[None]:
    """Hold an exclusive lock on a file. Raises RunError with `message` if it is not free within `seconds`."""
    lock = FileLock(path, timeout=seconds)
    try:
        lock.acquire(poll_interval=0.2)
    except Timeout as error:
        raise RunError(message) from error
    except OSError as error:
        raise RunError(f"{path} cannot be locked: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def working_in(out: Path) -> Iterator[None]:
    """Lock the folder with a lock that all workers of one process share."""
    with open(out / ".workers.lock", "a+") as file:  # network file systems require read access for a shared lock
        try:
            import fcntl
        except ImportError:  # Windows
            yield
            return
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            raise RunError(f"another process is taking over {out}; wait for it") from error
        yield


def difference(earlier: Any, now: Any, where: str = "") -> str:
    """The first difference between two JSON values, as a phrase; "" if they are equal."""
    if isinstance(earlier, dict) and isinstance(now, dict):
        for key in [*earlier, *(key for key in now if key not in earlier)]:
            found = difference(earlier.get(key), now.get(key), f"{where}.{key}" if where else str(key))
            if found:
                return found
        return ""
    if isinstance(earlier, list) and isinstance(now, list) and len(earlier) == len(now):
        pairs = enumerate(zip(earlier, now, strict=True))
        return next((d for i, pair in pairs if (d := difference(*pair, f"{where}.{i}"))), "")
    return "" if earlier == now else f"{where} was {short(earlier)}, but got {short(now)}"
