"""Stochastic depth: drops in training at its rate, keeps the mean, and changes nothing in evaluation."""

from __future__ import annotations

import pytest
import torch

import ofav2_plugins as ofav2
from ofav2_plugins import registry
from ofav2_plugins.skips.stochastic import Stochastic


def test_in_evaluation_it_is_the_residual_wiring():
    x = torch.randn(4, 2, 3, 3)
    assert torch.equal(Stochastic(0.5).run([lambda x: 2 * x, lambda x: x + 1], x), 2 * x + 1)


def test_training_drops_images_at_the_rate_and_keeps_the_mean():
    skip, x = Stochastic(0.25), torch.ones(4000, 1, 1, 1)
    skip.training = True
    with torch.random.fork_rng():
        torch.manual_seed(0)
        y = skip.run([lambda x: x + 3], x)
    dropped = (y == 1).float().mean().item()
    assert dropped == pytest.approx(0.25, abs=0.03)
    assert y[y != 1].unique().tolist() == pytest.approx([1 + 3 / 0.75])
    assert y.mean().item() == pytest.approx(4, abs=0.15)


def test_a_block_that_changes_the_shape_is_never_dropped():
    skip = Stochastic(0.9)
    skip.training = True
    assert torch.equal(skip.run([lambda x: torch.cat([x, x], 1)], torch.ones(5, 1, 1, 1)), torch.ones(5, 2, 1, 1))


def test_a_supernet_and_its_subnets_drop_only_while_they_train():
    spec = ofav2.SupernetSpec(skip={"name": "stochastic", "rate": 0.9})
    net = ofav2.build_supernet(spec, 3, width_mult=0.25, dropout_rate=0)
    x = torch.randn(2, 3, 16, 16)
    for each in (net, net.get_active_subnet()):
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(0)
            assert not torch.equal(each.train()(x), each(x))
            assert torch.equal(each.eval()(x), each(x))


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_wrong_rate_is_refused(rate):
    with pytest.raises(ofav2.UserError, match=rf"rate must be in \[0, 1\), but got {rate}"):
        Stochastic(rate)


@pytest.mark.parametrize("batch_statistics", [True, False])
def test_a_teacher_drops_nothing_and_draws_no_random_numbers(batch_statistics):
    spec = ofav2.SupernetSpec(skip={"name": "stochastic", "rate": 0.9})
    net = ofav2.build_supernet(spec, 3, width_mult=0.25, dropout_rate=0.5)
    x = torch.randn(4, 3, 16, 16)
    teacher = registry.load(registry.TEACHERS, "fixed")
    teacher.bind(net, [x], [1.0], batch_statistics)
    state = torch.get_rng_state()
    assert torch.equal(teacher.logits(x), teacher.logits(x))
    assert torch.equal(torch.get_rng_state(), state)
