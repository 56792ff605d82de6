"""Contract test of optimizers."""

from __future__ import annotations

import json
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from ..optimizers.base import Optimizer
from ..teachers.none import NoTeacher
from ..training.checkpoints import TrainingState
from ..training.trainer import parameter_groups

LR, WARMUP, BATCHES = 0.01, 3, 8


def check_optimizer(plugin: Optimizer) -> None:
    """Check that it trains all parameters, does not decay the second group, and resumes exactly from a checkpoint."""
    whole = _state(plugin)
    parameters = [p for group in whole.optimizer.param_groups for p in group["params"]]
    assert len(parameters) == len(list(whole.net.parameters())), f"{plugin.name}: every parameter must be in one group"
    _check_no_decay(plugin)
    losses = _train(whole, range(WARMUP + BATCHES))
    assert losses[-1] < losses[0], f"{plugin.name}: the loss must fall, but it went from {losses[0]} to {losses[-1]}"
    for stop in (1, WARMUP + 2):
        first, resumed = _state(plugin), _state(plugin)
        _train(first, range(stop))
        tensors, meta = first.save()
        resumed.load(tensors, json.loads(json.dumps(meta)))
        _train(resumed, range(stop, WARMUP + BATCHES))
        for name, value in whole.net.state_dict().items():
            assert torch.equal(resumed.net.state_dict()[name], value), (
                f"{plugin.name}: a training resumed from a checkpoint after {stop} batches must equal an uninterrupted "
                f"one exactly, but {name} differs"
            )


def _state(plugin: Optimizer) -> TrainingState:
    net = nn.Linear(3, 1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(0.5)
    optimizer = plugin.build(parameter_groups(net), LR)
    assert isinstance(optimizer, torch.optim.Optimizer), (
        f"{plugin.name}: build must return a torch optimizer, but got {optimizer!r}"
    )
    scheduler: Any = plugin.scheduler(optimizer, WARMUP, BATCHES)
    assert isinstance(scheduler, LRScheduler), (
        f"{plugin.name}: scheduler must return a torch LRScheduler, but got {scheduler!r}"
    )
    return TrainingState(net, optimizer, scheduler, NoTeacher())


def _train(state: TrainingState, batches: range) -> list[float]:
    losses = []
    for batch in batches:
        for group in state.optimizer.param_groups:
            assert 0 <= group["lr"] < math.inf, f"the learning rate of batch {batch} is {group['lr']}"
        state.optimizer.zero_grad()
        loss: Tensor = state.net(torch.ones(2, 3) * (1 + batch % 2)).square().mean()
        loss.backward()
        state.optimizer.step()
        state.scheduler.step()
        losses.append(loss.item())
    return losses[::2] if len(losses) > 2 else losses


def _check_no_decay(plugin: Optimizer) -> None:
    state = _state(plugin)
    for parameter in state.net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    state.optimizer.step()
    bias = dict(state.net.named_parameters())["bias"]
    assert torch.equal(bias, torch.full_like(bias, 0.5)), (
        f"{plugin.name}: parameters of the group with weight_decay 0 must not decay"
    )
