"""The paper's recipe against its table, for all supernets and teachers; wrong recipes are named with their line."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import ofav2_plugins as ofav2
from ofav2_plugins.errors import UserError
from ofav2_plugins.recipes import load_recipe
from ofav2_plugins.run import Arm

KS, D, E = [3, 5, 7], [2, 3, 4], [3, 4, 6]

# The published table: opens, epochs, warm-up epochs, lr, subnets per step, dropout.
FULL = [("full", 1, {}, 180, 0, 0.08, 1, 0.2)]
KERNEL = [("kernel", 1, {"ks": KS}, 120, 5, 0.03, 1, 0.1)]
LEVEL = [
    ("level", 1, {"level": [2, 3]}, 25, 0, 0.0025, 2, 0.1),
    ("level", 2, {"level": [1, 2, 3]}, 120, 5, 0.0075, 2, 0.1),
]
HEIGHT = [
    ("height", 1, {"height": [4, 5]}, 25, 0, 0.001875, 2, 0.1),
    ("height", 2, {"height": [3, 4, 5]}, 60, 5, 0.00375, 2, 0.1),
    ("height", 3, {"height": [2, 3, 4, 5]}, 90, 5, 0.0075, 2, 0.1),
    ("height", 4, {"height": [1, 2, 3, 4, 5]}, 120, 5, 0.015, 2, 0.1),
]
DEPTH = [("depth", 1, {"d": [3, 4]}, 25, 0, 0.0025, 2, 0.1), ("depth", 2, {"d": D}, 120, 5, 0.0075, 2, 0.1)]
WIDTH = [("width", 1, {"e": [4, 6]}, 25, 0, 0.0025, 4, 0.1), ("width", 2, {"e": E}, 120, 5, 0.0075, 4, 0.1)]


def table(supernet: str) -> list[tuple]:
    level = LEVEL if supernet.endswith("P") else []
    height = HEIGHT if supernet.startswith("EE") else []
    return FULL + KERNEL + level + height + DEPTH + WIDTH


@pytest.mark.parametrize("teacher", ["fixed", "progressive"])
@pytest.mark.parametrize("supernet", list(ofav2.VARIANTS))
def test_the_papers_plan_row_by_row(supernet, teacher):
    arm = Arm(supernet, supernet, load_recipe("paper", [f"teacher={teacher}"]), seed=0)
    plan = arm.plan(ofav2.build_supernet(supernet, n_classes=2, width_mult=0.25).space)
    before, rows = None, []
    for planned in plan:
        settings = planned.settings
        rows.append((
            planned.phase.name, planned.step, {dim: list(grades) for dim, grades in planned.opens.items()},
            settings.epochs, settings.warmup_epochs, settings.lr, settings.subnets_per_step, settings.dropout,
        ))  # fmt: skip
        assert planned.starts_from == before
        assert planned.teacher == (None if before is None else "full" if teacher == "fixed" else before)
        before = planned.name
    assert rows == table(supernet)


def test_the_papers_rules():
    paper = load_recipe("paper")
    assert (paper.batch_size, paper.label_smoothing, paper.validation_fraction) == (64, 0.1, 0.15)
    assert (paper.optimizer.momentum, paper.optimizer.weight_decay) == (0.9, 3e-5)
    assert (paper.augmentation.min_scale, paper.augmentation.flip) == (0.85, True)
    assert (paper.evaluation.bn_images, paper.evaluation.selection_draws) == (1000, 32)
    assert paper.resolutions == [48, 52, 56, 60, 64]
    assert (paper.distillation, paper.kd_ratio, paper.teacher_batch_statistics) == ("soft_ce", 1.0, True)
    assert paper.exit_weights.loss == paper.exit_weights.output == [0.06, 0.13, 0.20, 0.27, 0.34]
    assert paper.evaluation.max_subnets is None, "the whole grid is evaluated after a step"


def test_the_commands_plan_is_the_same():
    done = subprocess.run(
        [sys.executable, "-m", "ofav2_plugins", "plan", "--supernet", "EE_DP", "--recipe", "paper", "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    entries = json.loads(done.stdout)
    keys = {"phase", "step", "opens", "epochs", "warmup_epochs", "lr", "subnets_per_step", "starts_from", "teacher"}
    assert all(set(entry) == keys for entry in entries)
    got = [(e["phase"], e["step"], e["opens"], e["epochs"], e["warmup_epochs"], e["lr"], e["subnets_per_step"])
           for e in entries]  # fmt: skip
    assert got == [row[:7] for row in table("EE_DP")]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("kernal: {epochs: 1}", ("line 3", "phases.kernal", "'kernel'")),
        ("kernel: {epoch: 1}", ("line 3", "phases.kernel.epoch", "unknown field")),
        ("kernel: {lr: -0.1}", ("line 3", "phases.kernel.lr", "greater than 0", "-0.1")),
        ("kernel: {epochs: 0}", ("line 3", "phases.kernel.epochs", "greater than 0")),
        ("kernel: {epochs: true}", ("line 3", "phases.kernel.epochs")),
    ],
)
def test_a_wrong_recipe_is_named_with_file_line_and_field(tmp_path, line, words):
    path = tmp_path / "mine.yaml"
    path.write_text(f"batch_size: 64\nphases:\n  {line}\n")
    with pytest.raises(UserError) as error:
        load_recipe(str(path))
    for word in (str(path), *words):
        assert word in str(error.value)


def test_overrides_reach_every_value_and_are_stored(tmp_path):
    recipe = load_recipe("paper", ["phases.height.2.epochs=7", "optimizer.momentum=0.8", "exit_weights=MIX"])
    assert recipe.phases["height"][2].epochs == 7
    assert recipe.optimizer.momentum == 0.8
    assert (recipe.exit_weights.loss, recipe.exit_weights.output) == ("DESC", "ASC")


def test_chosen_phases_keep_their_order_and_unknown_ones_are_named():
    assert list(load_recipe("paper").with_phases(["width", "kernel"]).phases) == ["kernel", "width"]
    with pytest.raises(UserError, match="but got 'hight'"):
        load_recipe("paper").with_phases(["hight"])
