"""Each patch: the symptom is there without it, gone with it, whatever the order of imports."""

import ast
import re
import subprocess
import sys
import time
from pathlib import Path

import patch_runner
import pytest

import upstream_patches

PATCHES = upstream_patches.patches()
NAMES = [patch.name for patch in PATCHES]
PARTS = ("Symptom:", "Upstream:", "Affects:", "Drop when:")


def symptom(case: str) -> str:
    """The pattern a case gives for its error; read, not imported, to keep `ofa` out of this process."""
    tree = ast.parse((patch_runner.CASES / f"case_{case}.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SYMPTOM":
            return ast.literal_eval(node.value)
    raise LookupError(f"case_{case}.py has no SYMPTOM")


@pytest.mark.parametrize("name", NAMES)
def test_symptom_and_repair(name: str, tmp_path: Path) -> None:
    errors = {}
    for mode in patch_runner.MODES:
        folder = tmp_path / mode.replace(" ", "_")
        folder.mkdir()
        errors[mode] = patch_runner.run(name, mode, folder)
    unpatched = errors.pop("unpatched")
    assert unpatched is not None, "no symptom without the patch"
    assert re.search(symptom(name), unpatched), unpatched
    assert errors == {"patched first": None, "all patched late": None}


@pytest.mark.parametrize("patch", PATCHES, ids=NAMES)
def test_module_keeps_the_contract(patch: upstream_patches.Patch) -> None:
    document = patch.module.__doc__ or ""
    positions = [document.find(f"\n{part} ") for part in PARTS]
    assert -1 not in positions, f"docstring without {PARTS[positions.index(-1)]}"
    assert positions == sorted(positions)
    assert patch.summary == document.splitlines()[0]
    assert patch.summary.endswith(".")
    assert callable(patch.module.needed)
    assert callable(patch.module.apply)


def test_every_patch_has_a_case_and_every_case_a_patch() -> None:
    assert sorted(path.stem.removeprefix("case_") for path in patch_runner.CASES.glob("*.py")) == NAMES


def test_applying_all_imports_neither_torch_nor_ofa_and_is_idempotent() -> None:
    script = """
import sys, upstream_patches
assert not any(patch.startswith("upstream_patches.") for patch in sys.modules)
first, again = upstream_patches.apply_all(), upstream_patches.apply_all()
assert first == [patch.name for patch in upstream_patches.patches()], first
assert again == [], again
assert not {"torch", "ofa", "numpy"} & set(sys.modules), sys.modules
"""
    root = Path(upstream_patches.__file__).parents[1]
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", script], check=True, cwd=root)
    assert time.perf_counter() - started < 5  # a tenth of a second of work


def test_patches_are_in_name_order() -> None:
    assert sorted(NAMES) == NAMES
    assert len(NAMES) > 30
