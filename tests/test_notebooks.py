"""The notebooks in examples/ run from top to bottom in a fresh kernel, and their commands succeed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

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


@pytest.mark.slow
def test_the_notebooks_run_from_top_to_bottom(tmp_path, monkeypatch):
    # One folder for all of them, as for a reader: the training of the second one is reused by the third one.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        printed = "".join(output.get("text", "") for output in outputs)
        assert "error:" not in printed, printed
        plots = [output for output in outputs if "image/png" in output.get("data", {})]
        assert len(plots) >= 1, path
