"""Shared by all tests: hypothesis with a fixed profile, one thread, upstream networks to compare with."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from support.study_samples import RECIPE, STUDY

from ofav2_plugins import registry

settings.register_profile(
    "fixed",
    derandomize=True,
    deadline=None,
    max_examples=12,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("fixed")
os.environ["RAY_worker_niceness"] = "0"  # with Ray's 15, workers starve on a machine that is busy with other tests
torch.set_num_threads(1)  # test files run in parallel
# A shell ignores Ctrl-C for its background commands, and processes that tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

VARIANT_NAMES = ["SE_B", "SE_D", "SE_P", "SE_DP", "EE_B", "EE_D", "EE_P", "EE_DP"]


@pytest.fixture(params=VARIANT_NAMES)
def variant(request: pytest.FixtureRequest) -> str:
    """Each of the eight supernets' names."""
    return request.param


@pytest.fixture
def make_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Makes a real file system of a given size ("64k"), or gives the one that it has made another size."""
    folder, mounted = tmp_path / "disk", False

    def make(size: str) -> Path:
        nonlocal mounted
        folder.mkdir(exist_ok=True)
        options = f"remount,size={size}" if mounted else f"size={size}"
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"mounting a small disk needs root: {done.stderr.strip()}")
        mounted = True
        return folder

    yield make
    if mounted:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def small_disk(make_disk: Callable[[str], Path]) -> Path:
    """A real file system of 64 KiB."""
    return make_disk("64k")


@pytest.fixture
def study(tmp_path) -> Path:
    """A small study in files."""
    (tmp_path / "mine.yaml").write_text(RECIPE)
    (tmp_path / "study.yaml").write_text(STUDY)
    return tmp_path / "study.yaml"


@pytest.fixture(scope="module")
def data():
    """The embedded photographs."""
    return registry.load(registry.DATASETS, "fashion-mini").load()
