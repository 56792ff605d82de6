"""What a phase does to the weights before its step: values keep their storage, other changes are refused."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import MultiStepLR

from ofav2_plugins.plugin import PluginError
from ofav2_plugins.teachers.none import NoTeacher
from ofav2_plugins.training.checkpoints import TrainingState, preserve_storage


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleDict({"a": nn.Conv2d(4, 4, 3), "b": nn.Conv2d(4, 4, 3), "norm": nn.BatchNorm2d(4)}).to(
        memory_format=torch.channels_last
    )


def test_new_values_come_into_the_old_storage_with_its_layout():
    module = net()
    layout = {name: (p.data_ptr(), p.stride()) for name, p in module.state_dict().items()}
    expected = {name: value.clone() for name, value in module.state_dict().items()}
    a, b = module["a"].weight, module["b"].weight
    with preserve_storage(module):
        a.data, b.data = b.data, a.data  # exchanged: neither may be overwritten before it is read
        module["a"].bias.data = module["a"].bias.data.flip(0)
        module["norm"].running_mean.fill_(3)
    assert {name: (p.data_ptr(), p.stride()) for name, p in module.state_dict().items()} == layout
    assert torch.equal(a, expected["b.weight"]) and torch.equal(b, expected["a.weight"])
    assert torch.equal(module["a"].bias, expected["a.bias"].flip(0))
    assert (module["norm"].running_mean == 3).all()


def test_a_view_of_the_old_values_is_taken_right():
    module = nn.ModuleDict({"linear": nn.Linear(5, 5)})
    expected = module["linear"].weight.detach().t().clone()
    with preserve_storage(module):
        module["linear"].weight.data = module["linear"].weight.data.t()
    assert torch.equal(module["linear"].weight, expected)
    assert module["linear"].weight.is_contiguous()


def exchange(module):
    module["a"].weight = nn.Parameter(module["a"].weight.detach().clone())


def grow(module):
    module["a"].weight.data = torch.zeros(8, 4, 3, 3)


def widen(module):
    module["a"].weight.data = module["a"].weight.data.double()


def add(module):
    module["c"] = nn.Conv2d(4, 4, 1)


def remove(module):
    del module["b"]


@pytest.mark.parametrize("change", [exchange, grow, widen, add, remove])
def test_what_the_optimiser_would_not_know_is_refused(change):
    module = net()
    with pytest.raises(PluginError, match="a phase's prepare may change the values"), preserve_storage(module):
        change(module)


def training_state() -> TrainingState:
    layers = net()
    optimizer = torch.optim.SGD(layers.parameters(), lr=1.0)
    return TrainingState(layers, optimizer, MultiStepLR(optimizer, [2, 4]), NoTeacher())


def rates(state: TrainingState, n_steps: int) -> list[float]:
    found = []
    for _ in range(n_steps):
        state.optimizer.step()
        state.scheduler.step()
        found += state.scheduler.get_last_lr()
    return found


def test_a_schedule_with_milestones_continues_after_a_checkpoint():
    uninterrupted, stopped, resumed = training_state(), training_state(), training_state()
    first = rates(stopped, 1)
    tensors, meta = stopped.save()
    resumed.load(tensors, json.loads(json.dumps(meta)))
    expected = rates(uninterrupted, 5)
    assert expected == pytest.approx([1.0, 0.1, 0.1, 0.01, 0.01])
    assert first + rates(resumed, 4) == expected
