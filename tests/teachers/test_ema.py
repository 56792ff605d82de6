"""Teacher `ema` against a moving average computed by hand, and its way through checkpoints and errors."""

from __future__ import annotations

import copy

import pytest
import torch
from support.commands import ofav2

import ofav2_plugins
from ofav2_plugins.evaluation.cost import count_macs
from ofav2_plugins.recipes.schema import load_recipe
from ofav2_plugins.teachers.ema import EMA
from ofav2_plugins.training.cost import training_macs
from ofav2_plugins.training.run_config import RunConfig
from ofav2_plugins.training.trainer import batch_work
from ofav2_plugins.utils.seeding import forked_torch

WEIGHTS = [0.06, 0.13, 0.20, 0.27, 0.34]


@pytest.fixture
def student() -> ofav2_plugins.Supernet:
    with forked_torch("student"):
        return ofav2_plugins.build_supernet("EE_DP", n_classes=3, width_mult=0.25)


def test_it_is_the_maximal_network_with_the_averaged_weights(student):
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    teacher = EMA(decay=0.75)
    teacher.bind(student, [images], WEIGHTS)
    expected = copy.deepcopy(student).train()
    for factor in (1.5, 0.5):
        with torch.no_grad():
            for parameter, average in zip(student.parameters(), expected.parameters(), strict=True):
                parameter.mul_(factor)
                average.copy_(0.75 * average + 0.25 * parameter)
        student.set_active_subnet(d=2, height=2)
        teacher.after_step(student)
    expected.set_dropout(0)
    expected.set_max_net()
    logits = sum(w * out for w, out in zip(WEIGHTS, expected.forward_exits(images), strict=True))
    torch.testing.assert_close(teacher.logits(images), logits, rtol=1e-4, atol=1e-5)


def test_its_plan_and_its_compute_are_those_of_a_progressive_teacher(student):
    def macs(teacher: str) -> tuple[list, list[int]]:
        recipe = load_recipe("quick", [("teacher", teacher)])
        config = RunConfig("a", "EE_DP", recipe, 0)
        plan = config.plan(student.space)
        steps = [p for p in plan if p.name == "kernel"]
        counted = [training_macs(student, p, recipe, 64, [24], 0) for p in steps]
        return [p.to_dict() for p in plan], [*counted, *(batch_work(p, 64) for p in steps)]

    assert macs("ema") == macs("progressive")
    (with_teacher, work), (without, less) = macs("ema")[1], macs("none")[1]
    student.set_max_net()
    largest = count_macs(student.get_multi_exit_subnet().eval(), 24)
    assert with_teacher - without == 64 * largest, "one batch of one epoch, in which the maximal network runs once"
    assert work - less == 64


def test_it_needs_batch_statistics(tmp_path):
    wrong = ("--set", "teacher_batch_statistics=false", "--set", "teacher.decay=0.9")
    error = ofav2("train", "--supernet", "SE_B", "--teacher", "ema", *wrong, "--out", tmp_path / "run").error
    assert "teacher 'ema (decay 0.9)' follows the student" in error and "must be true, but got false" in error
    assert not (tmp_path / "run").exists()
