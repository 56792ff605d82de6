"""Runs on a real Ray cluster of three nodes: stopped and resumed, a node and its disk lost, equal to `serial`."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.commands import ofav2
from support.study_samples import STUDY
from support.waiting import wait_for

import ofav2_plugins as ofav2_api
from ofav2_plugins.errors import RunError, UserError
from ofav2_plugins.executors.base import RunSetup
from ofav2_plugins.executors.messages import Failed, Returned
from ofav2_plugins.executors.ray import Ray, RayBackend
from ofav2_plugins.executors.ray_pool import map_on_ray
from ofav2_plugins.executors.storage import local_copy
from ofav2_plugins.training.context import LoggingOptions
from ofav2_plugins.utils.signals import StopRequest

SHARING = STUDY.replace("{name: b, supernet: SE_D}", "{name: b, supernet: SE_B, teacher: progressive}")
"""Two arms, of which the second one waits for the first phase of the first one."""

ONE_ARM = STUDY.replace("  - {name: b, supernet: SE_D}\n", "overrides: ['phases={full: {epochs: 1, lr: 0.05}}']\n")

COSTS = ("seconds", "images_per_second", "peak_memory_mib")


def rows(out: Path) -> list:
    """The rows of results.json without what differs from call to call."""
    found = json.loads((out / "results.json").read_text())["rows"]
    for phase in (phase for row in found for phase in row["phases"]):
        for cost in COSTS:
            del phase[cost]
    return found


@pytest.fixture(scope="module")
def cluster():
    """A head without CPUs and two nodes with one each, and a connection of this process."""
    ray = pytest.importorskip("ray", reason="needs pip install 'ofav2-plugins[ray]'")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def node_with_a_run(cluster):
    """The node on which an actor executes a run."""
    raylets = {node.all_processes["raylet"][0].process.pid: node for node in cluster.worker_nodes}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cmdline").read_bytes().startswith(b"ray::RunActor"):
                parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
                if parent in raylets:
                    return raylets[parent]
    raise AssertionError("no node executes a run")


def removed(folder: Path) -> bool:
    """Remove a folder into which a dying process may still write; whether it is gone."""
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


@contextlib.contextmanager
def once(found, action):
    """Within this context a thread waits for a condition and then acts."""
    problems = []

    def act():
        try:
            wait_for(found)
            action()
        except BaseException as error:
            problems.append(error)

    thread = threading.Thread(target=act)
    thread.start()
    yield
    thread.join()
    assert not problems, problems


def test_a_pool_works_with_the_actors_that_fit_and_raises_their_exception(cluster):
    def square():
        return lambda x: x * x

    def fail():
        raise RunError("the images are missing")

    def results(make, workers):
        return sorted(map_on_ray(make, [1, 2, 3, 4], workers, 1, {"num_cpus": 1}, StopRequest()))

    assert results(square, 4) == [(1, 1), (2, 4), (3, 9), (4, 16)]  # only two actors fit
    with pytest.raises(RunError, match="the images are missing"):
        results(fail, 1)


def test_a_pool_says_that_no_machine_fits_its_workers(cluster):
    lines, stop = [], StopRequest()

    def say(line):
        lines.append(line)
        stop.requested = True

    with pytest.raises(KeyboardInterrupt):
        list(Ray(cpus=7, memory_gib=0.5).map(lambda: str, [1, 2], 1, stop, say))
    [line] = lines
    assert "no machine of the Ray cluster has the 7 CPUs, 0 GPUs and 0.5 GiB that each worker reserves" in line
    assert "2 with 1 CPUs, 0 GPUs" in line and "1 with 0 CPUs" in line and "waiting until one joins" in line


def test_a_dead_worker_is_replaced_and_one_that_cannot_start_is_a_failure(cluster, tmp_path):
    import ray

    class Actor:
        def __init__(self, broken):
            if broken:
                raise ImportError("no package of that name")

        def die(self):
            os._exit(1)

    def error_of(broken):
        with pytest.raises(ray.exceptions.RayError) as raised:
            ray.get(ray.remote(Actor).remote(broken).die.remote())
        return raised.value

    setup = RunSetup("fashion-mini", None, tmp_path, "cpu", "32-true", 1, LoggingOptions())
    backend, dead = RayBackend(Ray(retries=1), setup), error_of(broken=False)

    def after(error, actor=None):
        return backend._after_death(actor or SimpleNamespace(run=object()), error)

    died = after(dead)
    assert isinstance(died, Returned) and "another one continues from the last checkpoint" in died.reason
    assert "worker process has died" in died.reason and "actor_id" not in died.reason
    cannot_start = after(error_of(broken=True))
    assert cannot_start == Failed("its worker cannot be started: ImportError: no package of that name")
    assert isinstance(after(ray.exceptions.RuntimeEnvSetupError("no such variable")), Failed)

    memory = ray.exceptions.OutOfMemoryError("the node is low on memory")
    lost = ray.exceptions.ObjectLostError("ab" * 28, None, "")
    again = SimpleNamespace(run=object())
    assert "the node is low on memory" in after(memory, again).reason
    last = after(lost, again)
    assert isinstance(last, Failed) and "its worker died 2 times" in last.reason and "ab" * 28 in last.reason


def test_a_finished_step_that_cannot_be_fetched_is_a_failed_run(cluster, study, tmp_path, monkeypatch):
    monkeypatch.setattr("ofav2_plugins.executors.storage.RETRY_SECONDS", ())
    study.write_text(ONE_ARM)
    storage, out = tmp_path / "storage", tmp_path / "out"
    ablate = ["ablate", study, "--executor", "ray", "--storage", f"file://{storage}", "--save-every", "0",
              "--set", "executor.storage_seconds=0.2", "--out", out]  # fmt: skip
    with once(lambda: list(storage.glob("full-*/*")), lambda: (out / "steps").write_text("instead of a folder")):
        failed = ofav2(*ablate)
    assert failed.returncode == 1 and "storage" in failed.stdout and "cannot be read" in failed.stdout, failed
    (out / "steps").unlink()
    resumed = ofav2(*ablate, "--resume")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr


def test_folders_may_be_relative_to_the_first_process(cluster, study, monkeypatch):
    study.write_text(ONE_ARM)
    monkeypatch.chdir(study.parent)  # the workers' directory is that of the cluster
    done = ofav2("ablate", "study.yaml", "--executor", "ray", "--out", "out")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [phase["name"] for phase in rows(Path("out"))[0]["phases"]] == ["full"]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes by /proc")
def test_a_study_survives_ctrl_c_and_the_loss_of_a_node_with_its_disk(cluster, study, tmp_path):
    study.write_text(SHARING + "overrides: [phases.full.epochs=4]\n")
    root, out = tmp_path / "storage", tmp_path / "ray"
    url = f"file://{root}"
    ablate = ["ablate", study, "--executor", "ray", "--storage", url, "--set", "executor.storage_seconds=0.2",
              "--save-every", "0", "--out", out]  # fmt: skip
    uploaded = lambda: list(root.glob("full-*/state.safetensors"))  # noqa: E731

    with once(uploaded, lambda: os.kill(os.getpid(), signal.SIGINT)):
        stopped = ofav2(*ablate)
    assert stopped.returncode == 130 and "--resume" in stopped.stderr, stopped.stdout + stopped.stderr
    assert uploaded() and not list(out.glob("steps/*/trained.json"))

    before = uploaded()[0].stat().st_mtime_ns

    def lose_node():
        cluster.remove_node(node_with_a_run(cluster), allow_graceful=False)
        wait_for(lambda: removed(local_copy(url)))
        time.sleep(1)
        assert uploaded(), "the lost disk must not remove the checkpoints from the storage"

    with once(lambda: any(state.stat().st_mtime_ns > before for state in uploaded()), lose_node):
        resumed = ofav2(*ablate, "--resume")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "another one continues from the last checkpoint" in resumed.stdout
    assert "a: full" in resumed.stdout and "b: kernel" in resumed.stdout

    assert ofav2("ablate", study, "--threads", "1", "--out", tmp_path / "serial").returncode == 0
    assert rows(out) == rows(tmp_path / "serial")
    assert len(list(root.glob("full-*"))) == 1  # computed once
    trained = ofav2_api.open_run(out, arm="b", seed=0).supernet().state_dict()  # finished steps have come back
    expected = ofav2_api.open_run(tmp_path / "serial", arm="b", seed=0).supernet().state_dict()
    assert all(value.equal(expected[name]) for name, value in trained.items())


@pytest.mark.slow
def test_a_search_measures_the_same_on_ray(cluster, tmp_path):
    run = tmp_path / "run"
    tiny = [
        "--set",
        "width_mult=0.25",
        "--set",
        "resolutions=[16]",
        "--set",
        "batch_size=512",
        "--phases",
        "full,kernel",
    ]
    assert ofav2("train", "--supernet", "SE_B", "--threads", "1", "--out", run, *tiny).returncode == 0
    search = ["search", run, "--samples", "20", "--evaluations", "100", "--front-size", "2", "--threads", "1"]
    fronts = []
    for executor in ("serial", "ray"):
        done = ofav2(*search, "--executor", executor, "--out", tmp_path / executor)
        assert done.returncode == 0, done.stderr
        fronts.append(json.loads((tmp_path / executor / "search.json").read_text())["front"])
    assert fronts[0] == fronts[1]


@pytest.mark.slow
def test_a_study_continues_after_a_restart_of_the_head_node(study, tmp_path):
    pytest.importorskip("ray", reason="needs pip install 'ofav2-plugins[ray]'")
    study.write_text(STUDY + "overrides: [phases.full.epochs=8]\n")
    out, port = tmp_path / "out", "6399"
    environment = {
        **os.environ,
        "RAY_gcs_rpc_server_reconnect_timeout_s": "5",
        "RAY_TMPDIR": "/tmp/ray-head-test",
        "RAY_AUTH_MODE": "disabled",  # depends on whether this machine has a token
    }
    ray = [sys.executable, "-m", "ray.scripts.scripts"]

    def start():
        head = [*ray, "start", "--head", "--block", "--port", port, "--num-cpus", "2", "--include-dashboard", "false"]
        return subprocess.Popen(head, env=environment, start_new_session=True, stdout=subprocess.DEVNULL)

    ablate = [sys.executable, "-m", "ofav2_plugins", "ablate", str(study), "--executor", "ray", "--save-every", "0",
              "--address", f"127.0.0.1:{port}", "--out", str(out)]  # fmt: skip
    head = start()
    try:
        time.sleep(20)
        first = subprocess.Popen(ablate, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        wait_for(lambda: list(out.glob("steps/*/state.safetensors")))
        os.killpg(head.pid, signal.SIGKILL)
        output, errors = first.communicate(timeout=900)
        assert first.returncode != 0 and "Traceback" not in output + errors
        head = start()
        time.sleep(20)
        again = subprocess.run([*ablate, "--resume"], env=environment, capture_output=True, text=True)
        assert again.returncode == 0, again.stdout + again.stderr
        assert [len(row["phases"]) for row in rows(out)] == [2, 2]
    finally:
        os.killpg(head.pid, signal.SIGKILL)


def test_without_ray_the_remedy_is_one_line(study, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    done = ofav2("ablate", study, "--executor", "ray", "--out", tmp_path / "out")
    assert "pip install 'ofav2-plugins[ray]'" in done.error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--set", "executor.cpus=0"], "cpus must be at least 1, but got 0"),
        (["--set", "executor.gpus=-1"], "gpus must be at least 0, but got -1"),
        (["--workers", "2", "--storage", "nonsense://x"], "storage must be a URL such as s3://bucket/folder"),
        (["--storage", "file:///proc/x"], "cannot be written"),
    ],
)
def test_wrong_settings_are_one_line_and_nothing_is_written(study, tmp_path, options, words):
    pytest.importorskip("ray", reason="needs pip install 'ofav2-plugins[ray]'")
    done = ofav2("ablate", study, "--executor", "ray", "--out", tmp_path / "out", *options)
    assert words in done.error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("address", ["127.0.0.1:9", "no.such.host.invalid:6379"])
def test_an_address_without_a_cluster_is_named_at_once(address):
    with pytest.raises(UserError, match=rf"no Ray cluster at --address {address}; start one with `ray start --head`"):
        Ray(address=address).check()
