"""The notebooks in examples/ run from top to bottom in a fresh kernel; a command that fails raises (`%%bash`)."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import nbformat
import pytest
import typer
from nbclient import NotebookClient

from ofav2_plugins.cli import main

EXAMPLES = Path(__file__).parent.parent / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def test_there_is_a_notebook_for_each_tutorial():
    tutorials = sorted((EXAMPLES.parent / "docs" / "tutorials").glob("*.md"))
    assert len(NOTEBOOKS) == len(tutorials) == 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_cells_are_small_and_name_no_device(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            assert len(cell.source.splitlines()) <= 30
            assert ".cuda()" not in cell.source and "/home/" not in cell.source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_commands_are_valid(path):
    group = typer.main.get_command(main.app)
    calls = [
        shlex.split(line, comments=True)[1:]
        for cell in nbformat.read(path, as_version=4).cells
        for line in cell.source.replace("\\\n", "").splitlines()
        if cell.source.startswith("%%bash") and line.startswith("ofav2 ")
    ]
    assert calls
    for command, *arguments in calls:
        found = group.commands[command]
        if hasattr(found, "commands"):
            found = found.commands[arguments.pop(0)]
        found.make_context("ofav2", arguments)  # raises for an unknown option or a missing argument


@pytest.mark.slow
def test_the_notebooks_run_from_top_to_bottom(tmp_path, monkeypatch):
    # One folder for all of them, as for a reader: the training of the second one is reused by the third one.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        plots = [output for output in outputs if "image/png" in output.get("data", {})]
        assert len(plots) >= 1, path
