"""Plugins that are broken, duplicated or of the wrong kind are named; a third-party package needs no edit of ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ofav2_plugins import registry

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(code_or_args: list[str], *paths: Path, **options) -> subprocess.CompletedProcess:
    """A fresh interpreter with more packages on its path."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    return subprocess.run([sys.executable, *code_or_args], capture_output=True, text=True, env=env, **options)


def fake_distribution(folder: Path, name: str, entry_points: str, module: str = "") -> Path:
    """An installed package as pip would leave it: metadata with entry points, and perhaps a module."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)
    if module:
        (folder / f"{name}.py").write_text(module)
    return folder


LOAD = (
    "from ofav2_plugins import registry\ntry: registry.load({0!r}, {1!r})\nexcept registry.PluginError as e: print(e)"
)


@pytest.mark.parametrize(
    ("entry", "module", "words"),
    [
        ("gone = no_such_module:X", "", ["'gone'", "other 1.0", "no_such_module:X", "cannot be imported"]),
        ("bad = other:X", "X = 3", ["'bad'", "other 1.0", "subclass of ofav2_plugins.skips.base.Skip", "but got 3"]),
        ("dense = other:X", "X = 3", ["two plugins", "'dense'", "ofav2-plugins", "other 1.0", "uninstall"]),
        ("x = other:X", "1 / 0", ["'x'", "ZeroDivisionError"]),
        ("x = other:X", "assert 1 == 2, 'wrong'", ["'x'", "other 1.0", "cannot be imported", "AssertionError: wrong"]),
        ("x = other:X", "raise SystemExit(3)", ["'x'", "other 1.0", "cannot be imported", "SystemExit: 3"]),
        (
            "quits = other:X",
            "from ofav2_plugins.skips.base import Skip\nclass X(Skip):\n run = None\n def __init__(self): exit(3)",
            ["'quits'", "cannot be constructed", "SystemExit: 3"],
        ),
        (
            "abstract = other:X",
            "from ofav2_plugins.skips.base import Skip\nclass X(Skip): pass",
            ["'abstract'", "cannot be constructed", "run"],
        ),
    ],
)
def test_a_broken_plugin_is_named(tmp_path, entry, module, words):
    folder = fake_distribution(tmp_path, "other", f"[ofav2.skips]\n{entry}\n", module)
    done = run(["-c", LOAD.format("ofav2.skips", entry.split(" ")[0])], folder)
    for word in words:
        assert word in done.stdout, done.stdout + done.stderr


def test_the_list_shows_why_a_plugin_does_not_load_and_the_others_still_work(tmp_path):
    entries = "[ofav2.skips]\ngone = no_such_module:X\nquits = other:X\n"
    folder = fake_distribution(tmp_path, "other", entries, "import sys\nsys.exit('not here')")
    done = run(["-m", "ofav2_plugins", "plugins", "--json"], folder)
    rows = {(row["namespace"], row["name"]): row for row in json.loads(done.stdout)}
    assert "no_such_module" in rows["ofav2.skips", "gone"]["problem"]
    assert "SystemExit: not here" in rows["ofav2.skips", "quits"]["problem"]
    assert rows["ofav2.skips", "dense"]["problem"] is None
    assert done.returncode == 1


def test_an_empty_list_loads_nothing_and_no_list_loads_all():
    assert registry.load_all(registry.SKIPS, []) == {}
    assert list(registry.load_all(registry.SKIPS, ["dense"])) == ["dense"]
    assert set(registry.load_all(registry.SKIPS)) == set(registry.names(registry.SKIPS)) >= {"dense", "residual"}


USE = """
import json, random, torch
from pathlib import Path
import ofav2_plugins as ofav2
from ofav2_plugins import registry
from ofav2_plugins.utils.tensor_files import load_checkpoint
from ofav2_plugins.evaluation.accuracy import Evaluator
from ofav2_plugins.evaluation.candidates import Candidate
from ofav2_plugins.recipes.schema import load_recipe
from lightning_fabric import Fabric
import sys
out, recipe = Path(sys.argv[1]), load_recipe(sys.argv[2])
data = registry.load(registry.DATASETS, "fashion-mini").load()
net = ofav2.build_supernet("branches=conv1x1+transform+avg_pool,skip=dense", data.n_classes, width_mult=0.25)
[best] = (out / "steps").glob("polish-*/best.safetensors")
net.load_state_dict(load_checkpoint(best)[0])
arch = net.sample_active_subnet(rng=random.Random(1))
sub = net.get_active_subnet().eval()
again = ofav2.build_subnet(json.loads(json.dumps(sub.config))).eval()
again.load_state_dict(sub.state_dict())
x = torch.randn(2, 3, 16, 16)
assert torch.equal(again(x), sub(x))
fabric = Fabric(accelerator="cpu", devices=1)
measured = Evaluator(data, recipe, fabric, 0).measure(net, Candidate(net.space.max_arch(), 16))
print(json.dumps({"top1": measured.top1, "levels": sorted({len(level) for level in arch["level"]})}))
"""


@pytest.mark.slow
def test_a_third_party_package_trains_through_both_level_steps(tmp_path):
    site, out, recipe = tmp_path / "site", tmp_path / "run", EXAMPLES / "ofav2_extras" / "recipe.yaml"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
         "--target", str(site), str(EXAMPLES / "ofav2_extras")],
        check=True, cwd=tmp_path,
    )  # fmt: skip
    listed = json.loads(run(["-m", "ofav2_plugins", "plugins", "--json"], site).stdout)
    extras = {row["name"] for row in listed if row["distribution"] == "ofav2-extras" and row["problem"] is None}
    assert extras == {"avg_pool", "kl", "plain_cnn", "polish"}
    check = "from ofav2_plugins.testing import check_plugin; check_plugin('ofav2.backbones', 'plain_cnn')"
    checked = run(["-c", check], site)
    assert checked.returncode == 0, checked.stderr
    done = run(
        ["-m", "ofav2_plugins", "train", "--supernet", "branches=conv1x1+transform+avg_pool,skip=dense",
         "--recipe", str(recipe), "--out", str(out), "--threads", "2"],
        site,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [row] = json.loads((out / "results.json").read_text())["rows"]
    assert [phase["name"] for phase in row["phases"]] == ["full", "level-1", "level-2", "polish"]
    sizes = {name: {len(level) for phase in row["phases"] if phase["name"] == name
                    for subnet in phase["subnets"] for level in subnet["arch"]["level"]}
             for name in ("level-1", "polish")}  # fmt: skip
    assert sizes["level-1"] <= {3, 4}
    used = run(["-c", USE, str(out), str(recipe)], site)
    assert used.returncode == 0, used.stderr
    facts = json.loads(used.stdout)
    assert facts["levels"] == [1, 2, 3, 4]
    assert facts["top1"] > 12
