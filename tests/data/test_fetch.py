"""Downloads from a local server that breaks off, stalls, serves wrong bytes, or cannot continue."""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from ofav2_plugins.data.fetch import Archive, fetch
from ofav2_plugins.errors import UserError


def zipped() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as packed:
        packed.writestr("tiny/wnids.txt", "n01443537\n")
        packed.writestr("tiny/noise.bin", np.random.default_rng(0).bytes(3_000_000))
    return content.getvalue()


CONTENT = zipped()


class Server(ThreadingHTTPServer):
    """Serves CONTENT; `plan` says for each request in turn how it misbehaves, `seen` what it was asked for."""

    plan: list[str]
    seen: list[str | None]
    daemon_threads = True


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        held = self.headers.get("Range")
        self.server.seen.append(held)
        how = self.server.plan.pop(0) if self.server.plan else "well"
        if how == "500":
            return self.send_error(500)
        if how in ("404", "429"):
            return self.send_error(int(how))
        content = CONTENT[::-1] if how == "wrong" else CONTENT
        start = int(re.fullmatch(r"bytes=(\d+)-", held)[1]) if held and how != "no range" else 0
        if start >= len(content):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        rest = content[start:]
        try:
            if how == "breaks off":
                self.wfile.write(rest[:1_200_000])
                self.connection.close()
            elif how == "stalls":
                self.wfile.write(rest[:1_200_000])
                self.wfile.flush()
                time.sleep(3)
            else:
                self.wfile.write(rest)
        except OSError:  # the client has given up
            pass

    def log_message(self, *args):
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as running:
        running.plan, running.seen = [], []
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def archive(server) -> Archive:
    return Archive(f"http://127.0.0.1:{server.server_port}/tiny.zip", hashlib.sha256(CONTENT).hexdigest(), "tiny")


def quick(archive, target, **options):
    return fetch(archive, target, timeout=1, pause=0.01, **options)


def assert_there(folder):
    with zipfile.ZipFile(io.BytesIO(CONTENT)) as packed:
        assert (folder / "noise.bin").read_bytes() == packed.read("tiny/noise.bin")
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


@pytest.mark.parametrize(
    "plan", [[], ["breaks off", "breaks off"], ["stalls"], ["500", "500"], ["breaks off", "500", "stalls"], ["429"]]
)
def test_a_server_that_breaks_off_or_stalls_is_continued(server, archive, tmp_path, plan):
    server.plan = list(plan)
    told = []
    folder = quick(archive, tmp_path / "data", progress=lambda done, total: told.append((done, total)))
    assert_there(folder)
    assert told[-1] == (len(CONTENT), len(CONTENT))
    continued = [held for held in server.seen if held]
    assert bool(continued) == any(how in plan for how in ("breaks off", "stalls"))


def test_a_server_that_cannot_continue_is_begun_again(server, archive, tmp_path):
    server.plan = ["breaks off", "no range"]
    assert_there(quick(archive, tmp_path))


def test_a_later_call_continues_what_an_earlier_one_has(server, archive, tmp_path):
    server.plan = ["breaks off", *["500"] * 9]
    with pytest.raises(UserError, match=r"1 MiB are kept in .*tiny\.part, run again"):
        quick(archive, tmp_path, attempts=3)
    kept = (tmp_path / "tiny.part").stat().st_size
    server.plan = []
    assert_there(quick(archive, tmp_path))
    assert server.seen[-1] == f"bytes={kept}-"


def test_wrong_bytes_are_removed_and_said(server, archive, tmp_path):
    server.plan = ["wrong"]
    with pytest.raises(UserError, match="SHA-256 must be"):
        quick(archive, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_server_no_file_and_a_folder_that_is_there(server, archive, tmp_path):
    server.plan = ["404"]
    with pytest.raises(UserError, match="404"):
        quick(archive, tmp_path)
    with pytest.raises(UserError, match=r"127\.0\.0\.1:9/"):
        quick(Archive("http://127.0.0.1:9/x.zip", archive.sha256, "tiny"), tmp_path, attempts=2)
    with pytest.raises(UserError, match="64 hexadecimal digits, but got 'abc'"):
        quick(Archive(archive.url, "abc", "tiny"), tmp_path)
    with pytest.raises(UserError, match="must begin with http"):
        quick(Archive("foo", archive.sha256, "tiny"), tmp_path)
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "mine").write_text("kept")
    with pytest.raises(UserError, match="is there already"):
        quick(archive, tmp_path)
    assert (tmp_path / "tiny" / "mine").read_text() == "kept"


def test_what_is_no_zip_or_another_folder_is_named_and_nothing_is_left_half(server, archive, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no folder cifar"):
        quick(Archive(archive.url, archive.sha256, "cifar"), tmp_path)
    monkeypatch.setattr(sys.modules[__name__], "CONTENT", b"text")
    with pytest.raises(UserError, match="no zip"):
        quick(Archive(archive.url, hashlib.sha256(b"text").hexdigest(), "tiny"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_command_takes_an_address_and_a_digest(archive, tmp_path):
    call = [sys.executable, "-m", "ofav2_plugins", "data", "fetch", "tiny-imagenet", "--to", str(tmp_path)]
    wrong = subprocess.run([*call, "--url", archive.url], capture_output=True, text=True)
    assert wrong.returncode == 1 and "SHA-256 must be 6198c8ae" in wrong.stderr
    other = subprocess.run([*call, "--url", archive.url, "--sha256", archive.sha256], capture_output=True, text=True)
    assert other.returncode == 1 and "no folder tiny-imagenet-200" in other.stderr
    unknown = subprocess.run([*call[:-3], "imagenet", "--to", str(tmp_path)], capture_output=True, text=True)
    assert unknown.returncode == 1 and "tiny-imagenet" in unknown.stderr
