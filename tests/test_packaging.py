"""A wheel holds the two packages with their data files and nothing else, and its entry points are in it."""

from __future__ import annotations

import ast
import configparser
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from ofav2_plugins import registry

CHECKOUT = Path(__file__).parent.parent
SOURCES = ("setup.py", "pyproject.toml", "README.md", "LICENSE",
           "ofav2_plugins", "upstream_patches", "tests", "benchmarks", "examples")  # fmt: skip


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """A copy of what is in the checkout, without what a build or a run left there."""
    folder = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        if (CHECKOUT / name).is_dir():
            shutil.copytree(CHECKOUT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(CHECKOUT / name, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(sources, tmp_path_factory) -> ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", ".", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
         "--wheel-dir", str(folder)],
        check=True, cwd=sources,
    )  # fmt: skip
    [path] = folder.glob("*.whl")
    return ZipFile(path)


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(sources, wheel):
    inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    expected = {
        path.relative_to(sources).as_posix()
        for package in ("ofav2_plugins", "upstream_patches")
        for path in (sources / package).rglob("*")
        if path.is_file()
    }
    assert inside == expected
    assert inside >= {
        "ofav2_plugins/py.typed",
        "ofav2_plugins/recipes/paper.yaml",
        "ofav2_plugins/study/studies/quick.yaml",
        "ofav2_plugins/report/templates/report.html.j2",
        "ofav2_plugins/data/embedded/fashion_mini.npz",
        "ofav2_plugins/data/embedded/LICENSE.fashion-mnist",
        "upstream_patches/__init__.py",
    }


def test_every_entry_point_is_in_the_wheel(wheel):
    [listed] = [name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt")]
    points = configparser.ConfigParser(delimiters=["="])
    points.optionxform = str
    points.read_string(wheel.read(listed).decode())
    assert set(points.sections()) == {"console_scripts", *registry.NAMESPACES}
    for group in points.sections():
        for name, target in points[group].items():
            module, _, attribute = target.partition(":")
            source = wheel.read(f"{module.replace('.', '/')}.py")
            defined = {
                node.name for node in ast.parse(source).body if isinstance(node, (ast.ClassDef, ast.FunctionDef))
            }
            assert attribute in defined, f"{group}: {name} = {target}"
