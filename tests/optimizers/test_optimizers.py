"""Schedules by hand, the optimizers against plain torch, and their way through recipe, cache key and plan."""

from __future__ import annotations

import json
import math

import pytest
import torch
from support.commands import ofav2, overrides
from support.plugins import third_party
from torch import nn

from ofav2_plugins import registry
from ofav2_plugins.errors import UserError
from ofav2_plugins.execution import provenance
from ofav2_plugins.execution.cache_key import cache_key_inputs
from ofav2_plugins.recipes.schema import load_recipe
from ofav2_plugins.testing import check_plugin
from ofav2_plugins.training.run_config import RunConfig
from ofav2_plugins.training.trainer import parameter_groups

WARMUP, BATCHES, LR = 20, 40, 0.08


def rates(plugin: object) -> list[float]:
    """The rate of each batch."""
    loaded = registry.load(registry.OPTIMIZERS, plugin)
    net = nn.Linear(2, 2)
    optimizer = loaded.build(parameter_groups(net), LR)
    scheduler = loaded.scheduler(optimizer, WARMUP, BATCHES)
    seen = []
    for _ in range(WARMUP + BATCHES):
        seen.append(optimizer.param_groups[0]["lr"])
        assert optimizer.param_groups[1]["lr"] == seen[-1]
        optimizer.step()
        scheduler.step()
    return seen


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_cosine_after_a_constant_warmup_is_exactly_the_papers_formula(name):
    expected = [0.5 * LR * (1 + math.cos(math.pi * batch / BATCHES)) for batch in range(BATCHES)]
    assert rates(name) == [LR] * WARMUP + expected


def test_step_and_constant_schedules():
    step = {"name": "sgd", "schedule": "step", "milestones": [0.25, 0.5], "gamma": 0.5}
    assert rates(step) == [LR] * (WARMUP + 10) + [LR / 2] * 10 + [LR / 4] * 20
    assert rates({"name": "adamw", "schedule": "constant"}) == [LR] * (WARMUP + BATCHES)


@pytest.mark.parametrize(
    ("plugin", "plain"),
    [
        ({"name": "sgd", "momentum": 0.8, "weight_decay": 0.1}, lambda g: torch.optim.SGD(g, LR, 0.8, nesterov=True)),
        ({"name": "sgd", "momentum": 0}, lambda g: torch.optim.SGD(g, LR)),
        ({"name": "adamw", "beta1": 0.8, "weight_decay": 0.1}, lambda g: torch.optim.AdamW(g, LR, (0.8, 0.999))),
    ],
)  # fmt: skip
def test_optimizers_equal_plain_torch(plugin, plain):
    nets = [nn.Conv2d(3, 5, 3) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    decay = plugin.get("weight_decay", 3e-5)
    ours = registry.load(registry.OPTIMIZERS, plugin).build(parameter_groups(nets[0]), LR)
    theirs = plain([{"params": [nets[1].weight], "weight_decay": decay}, {"params": [nets[1].bias], "weight_decay": 0}])
    for seed in range(4):
        images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
        for net, optimizer in zip(nets, (ours, theirs), strict=True):
            optimizer.zero_grad()
            net(images).square().mean().backward()
            optimizer.step()
    for mine, other in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"momentum": 1.0}, "momentum must be at least 0 and below 1, but got 1.0"),
        ({"weight_decay": -1}, "weight_decay must be at least 0 and finite, but got -1"),
        ({"weight_decay": True}, "must not be a boolean"),
        ({"weight_decay": "much"}, "but got 'much'"),
        ({"weight_decay": None}, "but got None"),
        ({"schedule": "cosin"}, "'cosine', 'step' or 'constant', but got 'cosin'"),
        ({"milestones": [2]}, "fractions of the schedule in 0..1, but got"),
        ({"gamma": 0}, "gamma must be above 0"),
        ({"lr": 0.1}, "has no setting 'lr'; its settings are momentum: float = 0.9"),
        ({"schedule": {"name": "step"}}, "but got {'name': 'step'}"),
    ],
)
def test_wrong_settings_are_errors_that_list_the_settings(settings, words):
    with pytest.raises(UserError, match=r"its settings are momentum: float = 0\.9") as error:
        registry.load(registry.OPTIMIZERS, {"name": "sgd", **settings})
    assert words in str(error.value)


def test_settings_are_part_of_the_cache_key_and_defaults_may_be_written_out():
    def key(*overrides: str) -> str:
        config = RunConfig("a", "SE_B", load_recipe("quick", list(overrides)), 0)
        space = config.build(2).space
        return json.dumps(cache_key_inputs(config, "data", config.plan(space)[0], space)["optimizer"])

    assert key() == key("optimizer=sgd") == key("optimizer.momentum=0.9")
    assert len({key(), key("optimizer.momentum=0.8"), key("optimizer=adamw"), key("optimizer.schedule=step")}) == 4


def test_the_plan_shows_a_chosen_optimizer():
    plan = ["plan", "--supernet", "SE_B", "--recipe", "quick", "--set", "optimizer=adamw"]
    assert "optimizer: adamw (weight_decay 0.02)" in ofav2(*plan, "--set", "optimizer.weight_decay=0.02").stdout
    first = json.loads(ofav2(*plan, "--json").stdout)[0]
    assert first["plugins"]["optimizer"]["weight_decay"] == 0.01
    assert set(first["plugins"]) == {"optimizer"}, "only what differs from the defaults"


MODULE = '''
import torch
from ofav2_plugins.optimizers.base import Optimizer

class RMSprop(Optimizer):
    """RMSprop with exponentially falling rates."""

    def __init__(self, end: float = 0.1):
        self.end = end

    def build(self, groups, lr):
        return torch.optim.RMSprop(groups, lr=lr, momentum=0.5)

    def scheduler(self, optimizer, warmup, batches):
        return torch.optim.lr_scheduler.ExponentialLR(optimizer, self.end ** (1 / batches))
'''


def test_a_third_partys_optimizer_trains_and_its_changed_source_is_noticed_at_resume(tmp_path, monkeypatch):
    third_party(tmp_path / "site", {registry.OPTIMIZERS: "RMSprop"}, MODULE, name="rmsprop_plugin")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    provenance.code_versions.cache_clear()
    check_plugin(registry.OPTIMIZERS, {"name": "rmsprop", "end": 0.5})
    small = ["width_mult=0.25", "resolutions=[16]", "batch_size=512", "evaluation.bn_images=64",
             "evaluation.max_subnets=1", "evaluation.final_trunks=1", "phases={full: {epochs: 1, lr: 0.0001}}",
             "optimizer={name: rmsprop, end: 0.5}"]  # fmt: skip
    train = ["train", "--supernet", "SE_B", "--out", tmp_path / "run", "--threads", 1, *overrides(*small)]
    done = ofav2(*train)
    assert done.returncode == 0, done.stderr
    [metrics] = tmp_path.glob("run/steps/full-*/metrics.jsonl")
    n_batches = 2550 // 512
    assert json.loads(metrics.read_text())["lr"] == pytest.approx(1e-4 * 0.5 ** ((n_batches - 1) / n_batches))
    module = tmp_path / "site" / "rmsprop_plugin.py"
    module.write_text(module.read_text().replace("momentum=0.5", "momentum=0.6"))
    provenance.code_versions.cache_clear()
    error = ofav2(*train, "--resume").error
    assert "rmsprop_plugin was '1.0 (" in error and "--accept-changes" in error
    provenance.code_versions.cache_clear()
