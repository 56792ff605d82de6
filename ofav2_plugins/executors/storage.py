"""Exchanges step folders through a URL, for clusters without a shared file system.

Every machine keeps a copy of the folders of the steps it works on; the copy under the URL is the reference. The name
of a folder contains a hash of all inputs of its step, so several studies can use one URL.
"""

from __future__ import annotations

import filecmp
import hashlib
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ..errors import RunError, UserError, error_message
from ..execution.records import TRAINED

STATES = {"state.safetensors", "state.previous.safetensors"}
"""Checkpoints within a step, which exist until it is trained."""

RETRY_SECONDS = (1.0, 3.0, 10.0)
"""Waiting times before a failed transfer is repeated."""

Value = TypeVar("Value")


def local_copy(url: str) -> Path:
    """The folder of this machine's copies."""
    return Path(tempfile.gettempdir()) / f"ofav2-{hashlib.blake2b(url.encode(), digest_size=6).hexdigest()}"


class StepStorage:
    """Copies step folders to and from a URL of fsspec: `s3://bucket/folder`, `gs://...`, `file:///folder`.

    Args:
        url: The URL of the folder that contains the step folders.

    Raises:
        UserError: fsspec or the package for this kind of URL is not installed, or the URL cannot be used.
    """

    def __init__(self, url: str):
        try:
            import fsspec
        except ImportError as error:
            raise UserError(f"storage {url} needs fsspec: pip install 'ofav2-plugins[ray]'") from error
        try:
            self._files, self._root = fsspec.url_to_fs(url)
        except ImportError as error:  # the message of fsspec names the package
            raise UserError(f"storage {url} cannot be used: {error}; install it on every machine") from error
        except Exception as error:
            raise UserError(f"storage must be a URL such as s3://bucket/folder, but got {url!r}: {error}") from error
        self._url = url
        self._pushed: dict[str, dict[str, tuple[int, int]]] = {}
        self._lock = threading.Lock()

    def check(self) -> None:
        """Write and remove a file. Raises UserError if that is not possible."""
        path = f"{self._root}/.write-test-{uuid.uuid4().hex}"
        try:
            self._write(path, b"")
            self._files.rm_file(path)
        except Exception as error:
            raise UserError(f"storage {self._url} cannot be written: {error_message(error)}") from error

    def fetch(self, folder: Path) -> None:
        """Make a local step folder equal to its copy in the storage; without a copy, it is unchanged.

        If both contain the same trained step, its other files are complete and only its records can be newer. Files
        that are equal are not replaced, because other runs of this machine may be reading them.
        """
        self._retried("read", partial(self._fetch, folder))

    def _fetch(self, folder: Path) -> None:
        remote = self._remote_files(folder.name)
        for path in _files(folder):
            if remote and path.name not in remote:
                path.unlink(missing_ok=True)
        trained, same = folder / TRAINED, False
        if TRAINED in remote and trained.exists():
            same = self._files.cat_file(f"{self._root}/{folder.name}/{TRAINED}") == trained.read_bytes()
        for name in sorted(remote, key=_stage):
            path = folder / name
            if not (same and _stage(name) < RECORDS and path.exists() and path.stat().st_size == remote[name]):
                self._download(folder, name)
        self._pushed[folder.name] = _versions(folder)

    def _download(self, folder: Path, name: str) -> None:
        """Download a file; it replaces the local one if they differ."""
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{name}.{uuid.uuid4().hex}.fetched"
        try:
            self._files.get_file(f"{self._root}/{folder.name}/{name}", str(temporary))
            if not (folder / name).exists() or not filecmp.cmp(temporary, folder / name, shallow=False):
                temporary.replace(folder / name)
        finally:
            temporary.unlink(missing_ok=True)

    def push(self, folder: Path) -> None:
        """Upload the changed files of a local step folder, and remove the states of a step that is trained.

        Other files that are missing locally, for example after the loss of a disk, stay in the storage.
        """
        with self._lock:
            self._retried("written", partial(self._push, folder))

    def _push(self, folder: Path) -> None:
        now, before = dict[str, tuple[int, int]](), self._pushed.get(folder.name, {})
        contents: dict[str, bytes] = {}
        for stage in (RECORDS, STATE, WEIGHTS):  # a training may write new files while this one reads
            for name, version in _versions(folder).items():
                if _stage(name) == stage:
                    with suppress(FileNotFoundError):  # replaced or removed: the next call uploads it
                        if version != before.get(name):
                            contents[name] = (folder / name).read_bytes()
                        now[name] = version
        for name in sorted(contents, key=lambda name: (_stage(name), name)):
            self._write(f"{self._root}/{folder.name}/{name}", contents.pop(name))
        removed = STATES & before.keys() - now.keys() if TRAINED in now else set()
        for name in removed:
            self._files.rm_file(f"{self._root}/{folder.name}/{name}")
        self._pushed[folder.name] = {name: version for name, version in (before | now).items() if name not in removed}

    def offer(self, folders: Sequence[Path]) -> None:
        """Upload local step folders that the storage does not contain."""
        for folder in folders:
            if not self._retried("read", partial(self._remote_files, folder.name)):
                self.push(folder)

    @contextmanager
    def pushing(self, folders: Sequence[Path], seconds: float, say: Callable[[str], None]) -> Iterator[None]:
        """Within this context, changed files are uploaded every `seconds` seconds, and once more at its end."""
        ended = threading.Event()

        def repeat() -> None:
            while not ended.wait(seconds):
                try:
                    self.push_all(folders)
                except UserError as error:
                    say(f"{error}; trying again")

        thread = threading.Thread(target=repeat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self.push_all(folders)

    def push_all(self, folders: Sequence[Path]) -> None:
        """`push` for each folder."""
        for folder in folders:
            self.push(folder)

    def _remote_files(self, name: str) -> dict[str, int]:
        """The names and sizes of the files of a folder in the storage; empty if it does not exist."""
        self._files.invalidate_cache()
        try:
            found: list[dict[str, Any]] = self._files.ls(f"{self._root}/{name}", detail=True)
        except FileNotFoundError:
            return {}
        sizes = {entry["name"].rpartition("/")[2]: entry["size"] for entry in found if entry["type"] == "file"}
        return {name: size for name, size in sizes.items() if name and not name.startswith(".")}

    def _write(self, path: str, content: bytes) -> None:
        """Write a file completely or not at all."""
        self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        parent, _, name = path.rpartition("/")
        temporary = f"{parent}/.{name}.{uuid.uuid4().hex}.tmp"
        self._files.pipe_file(temporary, content)
        self._files.mv(temporary, path)

    def _retried(self, verb: str, action: Callable[[], Value]) -> Value:
        """Perform a transfer, several times if it fails. Raises RunError if the last attempt fails, too."""
        for seconds in RETRY_SECONDS:
            try:
                return action()
            except Exception:
                time.sleep(seconds)
        try:
            return action()
        except Exception as error:
            raise RunError(f"storage {self._url} cannot be {verb}: {error_message(error)}") from error


WEIGHTS, STATE, RECORDS = range(3)
"""The order of an upload: weights, states, and the records that describe them.

Files are read in the opposite order. Weights are therefore never older than the state next to them.
"""


def _stage(name: str) -> int:
    return RECORDS if name.endswith(".json") else STATE if name in STATES else WEIGHTS


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.glob("*") if path.is_file() and not path.name.startswith("."))


def _versions(folder: Path) -> dict[str, tuple[int, int]]:
    """Modification time and size of the files of a folder."""
    versions = {}
    for path in _files(folder):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        versions[path.name] = (status.st_mtime_ns, status.st_size)
    return versions
