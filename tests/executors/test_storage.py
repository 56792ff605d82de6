"""Step folders that travel through a URL: a folder, and a real S3-compatible server."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ofav2_plugins.errors import RunError, UserError
from ofav2_plugins.executors.storage import StepStorage

fsspec = pytest.importorskip("fsspec", reason="needs pip install 'ofav2-plugins[ray]'")


@pytest.fixture
def s3(monkeypatch, tmp_path):
    """The URL of an empty folder on a local server."""
    server = pytest.importorskip("moto.server", reason="needs pip install 'moto[server]'")
    s3fs = pytest.importorskip("s3fs", reason="needs pip install s3fs")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    host, port = running.get_host_and_port()
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", f"http://{host}:{port}"),
    ):
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().makedirs("bucket", exist_ok=True)  # the servers of all tests share their buckets
    yield f"s3://bucket/{tmp_path.name}"
    s3fs.S3FileSystem.clear_instance_cache()
    running.stop()


@pytest.fixture(params=["file", "s3"])
def url(request, tmp_path):
    return request.getfixturevalue("s3") if request.param == "s3" else f"file://{tmp_path / 'storage'}"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*")}


def test_a_folder_arrives_on_another_machine_and_changes_follow(url, tmp_path):
    here, there = tmp_path / "here" / "full-1", tmp_path / "there" / "full-1"
    here.mkdir(parents=True)
    (here / "state.safetensors").write_bytes(b"epoch 1")
    (here / "metrics.jsonl").write_bytes(b"1\n")
    (here / ".state.tmp").write_bytes(b"half a file")
    writer, reader = StepStorage(url), StepStorage(url)
    writer.check()
    writer.push(here)
    reader.fetch(there)
    assert contents(there) == {"state.safetensors": b"epoch 1", "metrics.jsonl": b"1\n"}

    (here / "state.safetensors").unlink()
    (here / "trained.json").write_bytes(b"{}")
    (here / "metrics.jsonl").write_bytes(b"1\n2\n")
    writer.push(here)
    reader.fetch(there)
    assert contents(there) == {"trained.json": b"{}", "metrics.jsonl": b"1\n2\n"}

    (there / "measured.json").write_bytes(b"[]")  # the other machine continues
    reader.push(there)
    writer.fetch(here)
    assert contents(here) == {**contents(there), ".state.tmp": b"half a file"}


def test_only_changed_files_are_uploaded_and_records_come_last(tmp_path, monkeypatch):
    folder, storage = tmp_path / "full-1", StepStorage(f"file://{tmp_path / 'storage'}")
    folder.mkdir()
    for name in ("a.json", "best.safetensors", "metrics.jsonl"):
        (folder / name).write_bytes(b"1")
    written = []
    write = storage._write
    monkeypatch.setattr(
        storage, "_write", lambda path, content: (written.append(path.rpartition("/")[2]), write(path, content))
    )
    storage.push(folder)
    assert written == ["best.safetensors", "metrics.jsonl", "a.json"]
    storage.push(folder)
    assert len(written) == 3
    (folder / "metrics.jsonl").write_bytes(b"12")
    storage.push(folder)
    assert written[3:] == ["metrics.jsonl"]


def test_best_weights_in_the_storage_are_never_older_than_the_state(tmp_path, monkeypatch):
    folder, storage = tmp_path / "full-1", StepStorage(f"file://{tmp_path / 'storage'}")
    names = ("best.safetensors", "state.safetensors")
    folder.mkdir()

    def end_epoch(epoch):
        for name in names:
            (folder / name).write_text(f"{epoch:03}" + "." * epoch)  # another size, so that the file counts as changed

    read_bytes, epochs = Path.read_bytes, iter(range(2, 100))

    def read_during_training(path):
        end_epoch(next(epochs))
        content = read_bytes(path)
        end_epoch(next(epochs))
        return content

    end_epoch(1)
    for _ in range(3):
        with monkeypatch.context() as patched:
            patched.setattr(Path, "read_bytes", read_during_training)
            storage.push(folder)
        best, state = (int((tmp_path / "storage" / "full-1" / name).read_text().rstrip(".")) for name in names)
        assert best >= state > 0


def test_the_workers_of_a_machine_can_fetch_and_push_at_the_same_time(url, tmp_path):
    here, there = tmp_path / "here" / "full-1", tmp_path / "there" / "full-1"
    here.mkdir(parents=True)
    expected = {"best.safetensors": b"x" * 200_000, "metrics.jsonl": b"1\n", "trained.json": b"{}"}
    for name, content in expected.items():
        (here / name).write_bytes(content)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: StepStorage(url).push(here), range(8)))
        list(pool.map(lambda _: StepStorage(url).fetch(there), range(8)))
    assert contents(there) == expected


def test_a_trained_step_is_not_downloaded_again(tmp_path):
    folder, storage = tmp_path / "full-1", StepStorage(f"file://{tmp_path / 'storage'}")
    folder.mkdir()
    for name in ("best.safetensors", "trained.json"):
        (folder / name).write_bytes(b"1")
    storage.push(folder)
    (tmp_path / "storage" / "full-1" / "measured.json").write_bytes(b"[]")
    before = {path.name: path.stat().st_ino for path in folder.iterdir()}
    storage.fetch(folder)
    assert {name: (folder / name).stat().st_ino for name in before} == before
    assert (folder / "measured.json").read_bytes() == b"[]"


def test_a_failed_transfer_is_repeated_before_it_is_an_error(tmp_path, monkeypatch):
    folder, storage = tmp_path / "full-1", StepStorage(f"file://{tmp_path / 'storage'}")
    monkeypatch.setattr("ofav2_plugins.executors.storage.RETRY_SECONDS", (0, 0))
    folder.mkdir()
    (folder / "best.safetensors").write_bytes(b"1")
    (tmp_path / "storage").write_text("a file instead of a folder")
    with pytest.raises(RunError, match="cannot be written"):
        storage.push(folder)
    monkeypatch.setattr("time.sleep", lambda seconds: (tmp_path / "storage").unlink(missing_ok=True))
    storage.push(folder)
    assert (tmp_path / "storage" / "full-1" / "best.safetensors").exists()


def test_a_lost_disk_does_not_remove_what_is_in_the_storage(tmp_path):
    folder, url = tmp_path / "full-1", f"file://{tmp_path / 'storage'}"
    folder.mkdir()
    (folder / "state.safetensors").write_bytes(b"epoch 1")
    storage = StepStorage(url)
    storage.push(folder)
    shutil.rmtree(folder)
    storage.push(folder)
    storage.fetch(folder)
    assert contents(folder) == {"state.safetensors": b"epoch 1"}


def test_a_step_that_the_storage_does_not_know_is_offered_once(tmp_path):
    known, new, empty = (tmp_path / name for name in ("known-1", "new-1", "empty-1"))
    for folder in (known, new):
        folder.mkdir()
        (folder / "best.safetensors").write_bytes(b"local")
    storage = tmp_path / "storage"
    (storage / "known-1").mkdir(parents=True)
    (storage / "known-1" / "best.safetensors").write_bytes(b"remote")
    StepStorage(f"file://{storage}").offer([known, new, empty])
    assert (storage / "known-1" / "best.safetensors").read_bytes() == b"remote"
    assert (storage / "new-1" / "best.safetensors").read_bytes() == b"local"
    assert not (storage / "empty-1").exists()


def test_a_storage_that_cannot_be_used_is_a_clear_error(tmp_path):
    with pytest.raises(UserError, match="storage must be a URL such as"):
        StepStorage("nonsense://x")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        StepStorage(f"file://{tmp_path}/file/steps").check()
