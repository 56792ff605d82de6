"""Measuring: each exit and their ensemble, and what a training computes, against values found another way."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from support.upstream_nets import randomise

from ofav2_plugins import registry
from ofav2_plugins.data.batches import train_batches
from ofav2_plugins.evaluation.accuracy import Evaluator
from ofav2_plugins.evaluation.candidates import Candidate
from ofav2_plugins.evaluation.cost import count_macs
from ofav2_plugins.evaluation.latency import LATENCY_RUNS, latency_ms
from ofav2_plugins.recipes.schema import load_recipe
from ofav2_plugins.training.cost import training_macs
from ofav2_plugins.training.run_config import RunConfig
from ofav2_plugins.utils.distributed import make_fabric

RECIPE = load_recipe("quick", ["resolutions=[16]", "evaluation.bn_images=128", "width_mult=0.25"])


@pytest.fixture(scope="module")
def data():
    return registry.load(registry.DATASETS, "fashion-mini").load()


def test_exits_and_ensemble_are_those_of_networks_that_end_there(data):
    net = RunConfig("a", "EE_D", RECIPE, 0).build(data.n_classes)
    randomise(net)
    evaluator = Evaluator(data, RECIPE, make_fabric("cpu"), seed=0)
    measured = evaluator.measure_exits(net)
    assert [entry["height"] for entry in measured["exits"]] == [1, 2, 3, 4, 5]
    for entry in measured["exits"]:
        single = evaluator.measure(net, Candidate({**net.space.max_arch(), "height": entry["height"]}, 16))
        assert (entry["val_top1"], entry["top1"]) == (single.val_top1, single.top1)
    ensemble = evaluator.measure(net, Candidate(net.space.max_arch(), 16, ensemble=True))
    assert measured["ensemble_top1"] == ensemble.top1
    assert measured["ensemble_val_top1"] == ensemble.val_top1
    tops = {entry["top1"] for entry in measured["exits"]} | {measured["ensemble_top1"]}
    assert len(tops) > 2  # random exits, but different ones


def test_all_heights_of_a_trunk_in_one_pass_are_what_each_alone_is(data):
    net = RunConfig("a", "EE_DP", RECIPE, 0).build(data.n_classes)
    randomise(net)
    evaluator = Evaluator(data, RECIPE, make_fabric("cpu"), seed=0)
    arch = {**net.space.max_arch(), "d": [2, 3, 2, 4, 2], "ks": [3, 5] * 10}
    group = [Candidate({**arch, "height": height}, 16) for height in (1, 3, 4)]
    measured = evaluator.measure_trunk(net, group)
    assert measured == [evaluator.measure(net, candidate) for candidate in group]
    assert len({subnet.top1 for subnet in measured}) > 1
    for candidate, subnet in zip(group, measured, strict=True):
        net.set_active_subnet(**candidate.arch)
        static = net.get_active_subnet().eval()
        assert (subnet.arch, subnet.macs) == (candidate.arch, count_macs(static, 16))
        assert subnet.params == sum(parameter.numel() for parameter in static.parameters())


def test_a_sandwich_step_trains_every_exit_of_its_first_network(data):
    phases = "{sandwich: {epochs: 2, subnets_per_step: 2}}"
    recipe = load_recipe("quick", ["resolutions=[16]", f"phases={phases}"])
    config = RunConfig("a", "EE_B", recipe, 0)
    net = config.build(data.n_classes)
    [planned] = config.plan(net.space)
    largest, smallest = planned.phase.archs(planned.space, random.Random(0), 2)
    net.set_active_subnet(**largest)
    every_exit = count_macs(net.get_multi_exit_subnet().eval(), 16)
    net.set_active_subnet(**smallest)
    last_exit = count_macs(net.get_active_subnet().eval(), 16)
    images = 2 * (len(data.train) // recipe.batch_size) * recipe.batch_size
    by_hand = 3 * images * (every_exit + last_exit)
    assert training_macs(net, planned, recipe, len(data.train), [16], 0) == by_hand


@pytest.mark.parametrize("supernet", ["SE_B", "EE_B"])
def test_compute_of_a_training_is_three_forward_passes_and_one_of_the_teacher(data, supernet):
    phases = "{full: {epochs: 3}, height: {epochs: 1}, kernel: {epochs: 2, warmup_epochs: 1, subnets_per_step: 2}}"
    recipe = load_recipe("quick", ["resolutions=[16]", "width_mult=0.25", f"phases={phases}"])
    arm = RunConfig("a", supernet, recipe, 0)
    net = arm.build(data.n_classes)
    full, kernel, *_ = arm.plan(net.space)
    net.set_max_net()
    largest = count_macs(net.get_multi_exit_subnet().eval(), 16)
    images = len(data.train) // recipe.batch_size * recipe.batch_size  # the last, smaller batch is dropped

    def macs(planned):
        return training_macs(net, planned, recipe, len(data.train), [16], 0)

    assert macs(full) == 3 * images * 3 * largest
    net.set_active_subnet(ks=3)
    least = count_macs(net.get_active_subnet().eval(), 16)
    net.set_active_subnet(ks=7)
    most = count_macs(net.get_active_subnet().eval(), 16)
    below, above = (3 * images * (2 * 3 * student + largest) for student in (least, most))
    assert below < macs(kernel) < above
    assert macs(kernel) - macs(replace(kernel, teacher=None)) == 3 * images * largest


def test_compute_is_of_the_resolutions_that_training_draws(data):
    recipe = load_recipe("quick", ["resolutions=[16, 24, 32]", "width_mult=0.25", "phases={full: {epochs: 2}}"])
    arm = RunConfig("a", "SE_B", recipe, 3)
    net = arm.build(data.n_classes)
    [full] = arm.plan(net.space)
    static, macs = net.get_active_subnet().eval(), 0
    for epoch in range(2):
        for images, _ in train_batches(
            data, batch_size=64, resolutions=recipe.resolutions, seed=3, phase="full", epoch=epoch, start_step=0,
            rank=0, world_size=1,
        ):  # fmt: skip
            macs += 3 * len(images) * count_macs(static, images.size(2))
    assert training_macs(net, full, recipe, len(data.train), recipe.resolutions, 3) == macs


def test_latency_is_of_the_batch_that_is_asked_for_and_only_then(data):
    net = RunConfig("a", "SE_B", RECIPE, 0).build(data.n_classes)
    candidate = Candidate(net.space.max_arch(), 16)
    assert "latency_ms" not in Evaluator(data, RECIPE, make_fabric("cpu"), seed=0).measure(net, candidate).to_dict()
    asking = RECIPE.model_copy(update={"evaluation": RECIPE.evaluation.model_copy(update={"latency_batch": 3})})
    assert Evaluator(data, asking, make_fabric("cpu"), seed=0).measure(net, candidate).to_dict()["latency_ms"] > 0

    class Recorder(torch.nn.Linear):
        shapes: ClassVar[list[list[int]]] = []

        def forward(self, x):
            self.shapes.append(list(x.shape))
            return super().forward(x)

    assert latency_ms(Recorder(16, 1), 3, 16) > 0
    assert Recorder.shapes == [[3, 3, 16, 16]] * (2 + LATENCY_RUNS)
