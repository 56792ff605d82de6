"""The paper's recipe besides its table of phases, and what a caller may change of a recipe."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from ofav2_plugins import registry
from ofav2_plugins.errors import UserError
from ofav2_plugins.recipes.schema import load_recipe


def test_the_papers_rules():
    paper = load_recipe("paper")
    assert (paper.batch_size, paper.label_smoothing, paper.validation_fraction) == (64, 0.1, 0.15)
    assert registry.config_of(registry.OPTIMIZERS, paper.optimizer) == registry.config_of(registry.OPTIMIZERS, "sgd")
    assert paper.optimizer == {"name": "sgd", "momentum": 0.9, "weight_decay": 3e-5, "schedule": "cosine"}
    assert paper.augmentations == [{"name": "crop_flip", "min_scale": 0.85, "flip": True}]
    assert (paper.idle_parameters, load_recipe("quick").idle_parameters) == ("momentum", "keep")
    assert (paper.evaluation.bn_images, paper.evaluation.selection_draws) == (1000, 32)
    assert paper.resolutions == [48, 52, 56, 60, 64]
    assert (paper.distillation, paper.kd_ratio, paper.teacher_batch_statistics) == ("soft_ce", 1.0, True)
    assert paper.exit_weights.loss == paper.exit_weights.output == [0.06, 0.13, 0.20, 0.27, 0.34]
    assert paper.evaluation.max_subnets is None, "the whole grid is evaluated after a step"


def test_the_plan_as_json_has_just_the_documented_keys():
    done = subprocess.run(
        [sys.executable, "-m", "ofav2_plugins", "plan", "--supernet", "EE_DP", "--recipe", "paper", "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    keys = {"phase", "step", "opens", "epochs", "warmup_epochs", "lr", "subnets_per_step", "starts_from", "teacher"}
    assert all(set(entry) == keys for entry in json.loads(done.stdout))


def test_overrides_reach_every_value():
    recipe = load_recipe("paper", ["phases.height.2.epochs=7", "optimizer.momentum=0.8", "exit_weights=MIX"])
    assert recipe.phases["height"][2].epochs == 7
    assert recipe.optimizer == {"name": "sgd", "momentum": 0.8, "weight_decay": 3e-5, "schedule": "cosine"}
    assert (recipe.exit_weights.loss, recipe.exit_weights.output) == ("DESC", "ASC")


def test_a_resolution_named_twice_is_refused():
    with pytest.raises(UserError, match=r"resolutions.*must be different from each other, but got 32 twice"):
        load_recipe("quick", ["resolutions=[24,32,32]"])


def test_chosen_phases_keep_their_order_and_unknown_ones_are_named():
    assert list(load_recipe("paper").with_phases(["width", "kernel"]).phases) == ["kernel", "width"]
    with pytest.raises(UserError, match="but got 'hight'"):
        load_recipe("paper").with_phases(["hight"])
