"""From a folder of photographs to predictions for others: the commands of the README, one after the other."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from support.deployment import command, walk

CHECKOUT = Path(__file__).parents[2]


def test_train_search_export_predict(tmp_path, monkeypatch):
    monkeypatch.setenv("OFAV2_CACHE", str(tmp_path / "cache"))
    walk(lambda *arguments: command(*arguments).stdout, tmp_path)


@pytest.mark.slow
def test_the_same_in_a_fresh_virtual_environment(tmp_path):
    """The package is installed from its wheel; its dependencies are those of this environment."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    scheme = {"base": str(venv), "platbase": str(venv)}
    site, scripts = (Path(sysconfig.get_path(name, "venv", scheme)) for name in ("purelib", "scripts"))
    wheel = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*wheel, "--wheel-dir", tmp_path / "wheel", CHECKOUT], check=True)
    [built] = (tmp_path / "wheel").glob("*.whl")
    subprocess.run([scripts / "python", "-m", "pip", "install", "-q", "--no-deps", "--no-index", built], check=True)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["OFAV2_CACHE"] = str(tmp_path / "cache")

    def call(*arguments: object) -> str:
        done = subprocess.run(
            [scripts / "ofav2", *map(str, arguments)], capture_output=True, text=True, cwd=tmp_path, env=environment
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = "import ofav2_plugins; print(ofav2_plugins.__file__)"
    python = [scripts / "python", "-c", where]
    found = subprocess.run(python, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment)
    assert found.stdout.startswith(str(site))
    walk(call, tmp_path / "walk")
