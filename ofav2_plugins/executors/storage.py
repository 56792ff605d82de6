"""Exchanges step folders through a URL, for clusters without a shared file system.

Every machine keeps a copy of the folders of the steps it works on; the copy under the URL is the reference. The name
of a folder contains a hash of all inputs of its step, so several studies can use one URL.
"""

from __future__ import annotations

import hashlib
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import RunError, UserError, error_message
from ..execution.records import TRAINED

STATES = {"state.safetensors", "state.previous.safetensors"}
"""Checkpoints within a step, which exist until it is trained."""


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
        try:
            self._write(f"{self._root}/.write-test", b"")
            self._files.rm_file(f"{self._root}/.write-test")
        except Exception as error:
            raise UserError(f"storage {self._url} cannot be written: {error_message(error)}") from error

    def fetch(self, folder: Path) -> None:
        """Make a local step folder equal to its copy in the storage; without a copy, it is unchanged."""
        with self._errors("read"):
            remote = self._remote_files(folder.name)
            for path in _files(folder):
                if remote and path.name not in remote:
                    path.unlink()
            for name in remote:
                folder.mkdir(parents=True, exist_ok=True)
                temporary = folder / f".{name}.fetched"
                self._files.get_file(f"{self._root}/{folder.name}/{name}", str(temporary))
                temporary.replace(folder / name)
            self._pushed[folder.name] = _versions(folder)

    def push(self, folder: Path) -> None:
        """Upload the changed files of a local step folder, and remove the states of a step that is trained.

        Records are uploaded after the weights that they describe. Other files that are missing locally, for example
        after the loss of a disk, stay in the storage.
        """
        with self._lock, self._errors("written"):
            now, before = _versions(folder), self._pushed.get(folder.name, {})
            changed = [name for name in now if now[name] != before.get(name)]
            for name in sorted(changed, key=lambda name: (name.endswith(".json"), name)):
                try:
                    content = (folder / name).read_bytes()
                except FileNotFoundError:  # replaced or removed in the meantime: the next call uploads it
                    del now[name]
                    continue
                self._write(f"{self._root}/{folder.name}/{name}", content)
            if TRAINED in now:
                for name in STATES & before.keys() - now.keys():
                    self._files.rm_file(f"{self._root}/{folder.name}/{name}")
            self._pushed[folder.name] = now

    def offer(self, folders: Sequence[Path]) -> None:
        """Upload local step folders that the storage does not contain."""
        for folder in folders:
            with self._errors("read"):
                known = bool(self._remote_files(folder.name))
            if not known:
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

    def _remote_files(self, name: str) -> list[str]:
        self._files.invalidate_cache()
        try:
            found: list[dict[str, Any]] = self._files.ls(f"{self._root}/{name}", detail=True)
        except FileNotFoundError:
            return []
        names = [entry["name"].rpartition("/")[2] for entry in found if entry["type"] == "file"]
        return [name for name in names if name and not name.startswith(".")]

    def _write(self, path: str, content: bytes) -> None:
        """Write a file completely or not at all."""
        self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        parent, _, name = path.rpartition("/")
        self._files.pipe_file(f"{parent}/.{name}.tmp", content)
        self._files.mv(f"{parent}/.{name}.tmp", path)

    @contextmanager
    def _errors(self, verb: str) -> Iterator[None]:
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            raise RunError(f"storage {self._url} cannot be {verb}: {error_message(error)}") from error


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
