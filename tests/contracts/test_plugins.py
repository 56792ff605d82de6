"""Every registered plugin keeps its namespace's contract: a new plugin is tested the day it is registered."""

from __future__ import annotations

import inspect
import json
import random

import numpy as np
import pytest
import torch

import ofav2_plugins as ofav2
from ofav2_plugins import registry
from ofav2_plugins.recipes.schema import load_recipe
from ofav2_plugins.training.run_config import RunConfig


def registered(namespace: str) -> list[str]:
    return registry.names(namespace)


@pytest.mark.parametrize("namespace", registry.NAMESPACES)
def test_every_plugin_loads_and_has_a_summary(namespace):
    rows = [row for row in registry.describe() if row.namespace == namespace]
    assert rows
    for row in rows:
        assert row.problem is None, row
        assert row.summary.endswith("."), row
        if row.distribution == "ofav2-plugins":  # entry-point name = file
            expected = f"{row.name.replace('-', '_')}:"
            assert row.target.rpartition(".")[2].startswith(expected), row


@pytest.mark.parametrize("name", registered(registry.BRANCHES))
@pytest.mark.parametrize(("channels", "stride"), [((16, 16), 1), ((16, 24), 1), ((16, 24), 2), ((8, 8), 2)])
@pytest.mark.parametrize("size", [1, 7, 8])
def test_branch(name, channels, stride, size):
    plugin = registry.load(registry.BRANCHES, name)
    branch = plugin.build(*channels, stride, "h_swish").eval()
    again = plugin.build(**json.loads(json.dumps(branch.config))).eval()
    again.load_state_dict(branch.state_dict())
    x = torch.randn(2, channels[0], size, size)
    untouched = x.clone()
    y = branch(x)
    out = -(-size // stride)
    assert y.shape == (2, channels[1], out, out)
    assert torch.equal(x, untouched)
    assert torch.equal(again(x), y)


@pytest.mark.parametrize("name", registered(registry.SKIPS))
def test_skip(name):
    skip = registry.load(registry.SKIPS, name)
    seen = []

    def block(x):
        seen.append(x.clone())
        return 2 * x + 1

    for depth in range(1, 7):
        x = torch.ones(1, 2, 3, 3)
        y = skip.run([block] * depth, x)
        assert y.shape == x.shape
        assert torch.equal(x, torch.ones_like(x))
    assert len(seen) == 1 + 2 + 3 + 4 + 5 + 6


@pytest.mark.parametrize("name", registered(registry.EXITS))
def test_exits(name):
    plugin = registry.load(registry.EXITS, name)
    heads = plugin.heads([8, 16, 24, 32, 40], 7, 0.1)
    assert list(heads) == sorted(heads)
    assert all(1 <= int(number) <= 4 for number in heads)
    for number, head in heads.items():
        again = plugin.head_from_config(json.loads(json.dumps(head.config)))
        again.load_state_dict(head.state_dict())
        assert head(torch.randn(2, 8 * int(number), 3, 3)).shape == (2, 7)


@pytest.mark.parametrize("name", registered(registry.PHASES))
@pytest.mark.parametrize("supernet", ["SE_B", "EE_DP"])
def test_phase(name, supernet):
    phase = registry.load(registry.PHASES, name)
    net = ofav2.build_supernet(supernet, n_classes=3, width_mult=0.25)
    if not phase.supports(net.space):
        return
    unlocked_space = net.space.max_only()
    for number, step in enumerate(phase.steps(net.space), start=1):
        unlocked_space = unlocked_space.restrict(step.unlocks)
        assert step.defaults.epochs > 0
        phase.prepare(net, number)
        archs = phase.archs(unlocked_space, random.Random(0), 3)
        assert archs
        for arch in archs:
            assert net.space.parse(arch) == arch


@pytest.mark.parametrize("name", registered(registry.DISTILLATION))
def test_distillation(name):
    distillation = registry.load(registry.DISTILLATION, name)
    student = torch.randn(4, 5, requires_grad=True)
    loss = distillation.loss(student, torch.randn(4, 5))
    assert loss.shape == ()
    assert torch.isfinite(loss)
    if distillation.needs_teacher:
        loss.backward()
        assert student.grad.abs().sum() > 0
        same = torch.randn(4, 5)
        assert distillation.loss(same, same) <= distillation.loss(same.flip(1), same)


@pytest.mark.parametrize("name", registered(registry.TEACHERS))
def test_teacher(name):
    teacher = registry.load(registry.TEACHERS, name)
    assert teacher.source([]) is None
    finished = ["full", "kernel", "depth-1"]
    assert teacher.source(finished) in (None, *finished)
    assert teacher.logits(torch.zeros(1, 3, 32, 32)) is None
    plan = RunConfig("a", "SE_B", load_recipe("quick", [f"teacher={name}"]), 0).plan(
        ofav2.build_supernet("SE_B", n_classes=3, width_mult=0.25).space
    )
    names = [step.name for step in plan]
    for i, step in enumerate(plan):
        assert step.teacher is None or step.teacher in names[:i]


@pytest.mark.parametrize("name", registered(registry.DATASETS))
def test_dataset_without_its_files_says_what_it_needs(name, tmp_path):
    dataset = registry.load(registry.DATASETS, name)
    if not inspect.signature(dataset.load).parameters["root"].default and name != "fashion-mini":
        with pytest.raises(ofav2.UserError, match=r"--root"):
            dataset.load(tmp_path / "nowhere")
        return
    splits = dataset.load()
    assert len(splits.train) > len(splits.validation) > 0
    images = splits.train.pixels(np.arange(2))
    assert images.dtype == "uint8" and images.shape[0] == 2 and images.ndim == 4
