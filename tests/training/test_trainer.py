"""The trainer against upstream's own loop and hand-computed values."""

from __future__ import annotations

import random
from collections.abc import Iterable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import MixedPrecision
from support.upstream_nets import upstream_net

import ofav2_plugins as ofav2
from ofav2_plugins import registry
from ofav2_plugins.distillation.mse import MeanSquaredError
from ofav2_plugins.distillation.none import NoDistillation
from ofav2_plugins.distillation.soft_ce import SoftCrossEntropy
from ofav2_plugins.exits.weights import exit_weights
from ofav2_plugins.phases.base import StepSettings
from ofav2_plugins.recipes.schema import Recipe, load_recipe
from ofav2_plugins.teachers.none import NoTeacher
from ofav2_plugins.training.checkpoints import Progress, StepFiles, TrainingState
from ofav2_plugins.training.losses import Objective
from ofav2_plugins.training.trainer import make_optimizer, make_scheduler, train_batch
from ofav2_plugins.utils.seeding import forked_torch

N_SUBNETS, LR = 2, 0.05


class OurTeacher(NoTeacher):
    """A given network in training mode as teacher, as upstream's loop has it."""

    def __init__(self, net: torch.nn.Module):
        super().__init__()
        self._ensemble = net.train()


def upstream_step(net, teacher, images, labels):
    """One step of upstream's `train_one_epoch`; the subnets that it drew."""
    from ofa.imagenet_classification.elastic_nn.training import progressive_shrinking
    from ofa.utils import AverageMeter, accuracy, cross_entropy_with_label_smoothing

    drawn = []
    sample = net.sample_active_subnet

    def remember():
        drawn.append(sample())
        return drawn[-1]

    net.sample_active_subnet = remember
    decay = [p for name, p in net.named_parameters() if "bn" not in name and "bias" not in name]
    none = [p for name, p in net.named_parameters() if "bn" in name or "bias" in name]
    optimizer = torch.optim.SGD(
        [{"params": decay, "weight_decay": 3e-5}, {"params": none, "weight_decay": 0}], LR, 0.9, nesterov=True
    )

    def update(metrics, output, target):
        metrics["top1"].update(accuracy(output, target, topk=(1,))[0].item(), len(target))

    manager = SimpleNamespace(
        network=net,
        net=net,
        optimizer=optimizer,
        run_config=SimpleNamespace(
            train_loader=[(images, labels)], adjust_learning_rate=lambda optimizer, epoch, batch, n_batches: LR
        ),
        train_criterion=lambda output, target: cross_entropy_with_label_smoothing(output, target, 0.1),
        get_metric_dict=lambda: {"top1": AverageMeter()},
        update_metric=update,
        get_metric_vals=lambda metrics, return_dict=False: {"top1": metrics["top1"].avg} if return_dict else [0],
        device=torch.device("cpu"),
    )
    args = SimpleNamespace(kd_ratio=1.0, kd_type="ce", teacher_model=teacher, dynamic_batch_size=N_SUBNETS)
    state = random.getstate()  # upstream seeds Python's global generator
    progressive_shrinking.train_one_epoch(manager, args, epoch=0)
    random.setstate(state)
    return drawn


def test_one_step_equals_upstreams_train_one_epoch(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "cuda", lambda self: self)
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(8, 3, 32, 32, generator=generator)
    labels = torch.randint(0, 10, (8,), generator=generator)
    theirs = upstream_net(dropout_rate=0)
    before = {name: value.clone() for name, value in theirs.state_dict().items()}
    ours = ofav2.build_supernet("SE_B", n_classes=10, width_mult=0.25, dropout_rate=0)
    ours.load_state_dict(before)
    archs = upstream_step(theirs, upstream_net(seed=1, dropout_rate=0), images, labels)
    assert len(archs) == N_SUBNETS

    recipe = load_recipe("paper")
    with ofav2.reference_layers():
        train_batch(
            Fabric(accelerator="cpu"),
            ours.train(),
            make_optimizer(ours, recipe, LR),
            Objective(recipe, SoftCrossEntropy(), multi_exit_loss=False),
            images,
            labels,
            archs,
            OurTeacher(upstream_net(seed=1, dropout_rate=0)),
        )
    changed = 0
    for name, value in theirs.state_dict().items():
        got = ours.state_dict()[name]
        torch.testing.assert_close(got, value, rtol=1e-6, atol=1e-6, msg=name)
        changed += not torch.equal(value, before[name])
    assert changed > 100


ARCHS = [{"ks": 3, "e": 6, "d": 4}, {"ks": 7, "e": 3, "d": 2}, {"ks": 7, "e": 4, "d": 2}]
"""One per optimizer step: the last two leave the third and fourth blocks of every stage idle."""


def batch(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(8, 3, 32, 32, generator=generator), torch.randint(0, 10, (8,), generator=generator)


def reference_loop(net: torch.nn.Module, set_to_none: bool) -> None:
    """Plain torch on upstream's network, one architecture per optimizer step; torch 1.12 kept zeros."""
    decay = [p for p in net.parameters() if p.ndim > 1]
    none = [p for p in net.parameters() if p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": 3e-5}, {"params": none, "weight_decay": 0}]
    optimizer = torch.optim.SGD(groups, LR, 0.9, nesterov=True)
    net.train()
    for seed, arch in enumerate(ARCHS):
        optimizer.zero_grad(set_to_none=set_to_none)
        net.set_active_subnet(**arch)
        images, labels = batch(seed)
        F.cross_entropy(net(images), labels, label_smoothing=0.1).backward()
        optimizer.step()


def our_loop(net: ofav2.Supernet, optimizer: torch.optim.Optimizer, recipe: Recipe, seeds: Iterable[int]) -> None:
    objective = Objective(recipe, NoDistillation())
    with ofav2.reference_layers():
        for seed in seeds:
            arch = net.space.parse(ARCHS[seed])
            train_batch(Fabric(accelerator="cpu"), net.train(), optimizer, objective, *batch(seed), [arch], NoTeacher())


def supernet_like(theirs: torch.nn.Module) -> ofav2.Supernet:
    net = ofav2.build_supernet("SE_B", n_classes=10, width_mult=0.25, dropout_rate=0)
    net.load_state_dict(theirs.state_dict())
    return net


@pytest.mark.parametrize("idle", ["keep", "momentum"])
def test_idle_parameters_move_as_in_a_plain_loop_with_the_same_zero_grad(idle):
    theirs = upstream_net(dropout_rate=0)
    ours, recipe = supernet_like(theirs), load_recipe("paper", [f"idle_parameters={idle}"])
    optimizer = make_optimizer(ours, recipe, LR)
    our_loop(ours, optimizer, recipe, [0])
    after_one = {name: value.clone() for name, value in ours.state_dict().items()}
    our_loop(ours, optimizer, recipe, [1, 2])
    reference_loop(theirs, set_to_none=idle == "keep")
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-5, atol=1e-6, msg=name)
    idle_names = [name for name, _ in ours.named_parameters() if name.startswith(("blocks.3.", "blocks.4."))]
    moved = {name for name in idle_names if not torch.equal(ours.state_dict()[name], after_one[name])}
    assert moved == set() if idle == "keep" else len(moved) >= 10  # a bias before a batch norm has no gradient


def training_state(net: ofav2.Supernet, recipe: Recipe) -> TrainingState:
    optimizer = make_optimizer(net, recipe, LR)
    scheduler = make_scheduler(optimizer, recipe, StepSettings(epochs=1, lr=LR), n_batches=3)
    return TrainingState(net, optimizer, scheduler, NoTeacher())


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("idle", ["keep", "momentum"])
def test_a_resumed_step_still_moves_idle_parameters(idle, optimizer, tmp_path):
    recipe = load_recipe("paper", [f"idle_parameters={idle}", ("optimizer", optimizer)])
    theirs = upstream_net(dropout_rate=0)
    whole, first = [training_state(supernet_like(theirs), recipe) for _ in range(2)]
    our_loop(whole.net, whole.optimizer, recipe, [0, 1, 2])
    our_loop(first.net, first.optimizer, recipe, [0, 1])
    files = StepFiles(tmp_path / "step", print)
    files.save_state(first, {}, Progress(batch=2))
    resumed = training_state(supernet_like(upstream_net(seed=1, dropout_rate=0)), recipe)
    loaded = files.load_state(resumed)
    assert loaded is not None and loaded[0].batch == 2
    our_loop(resumed.net, resumed.optimizer, recipe, [2])
    for name, value in whole.net.state_dict().items():
        assert torch.equal(resumed.net.state_dict()[name], value), name
    idle_names = [name for name, _ in first.net.named_parameters() if name.startswith(("blocks.3.", "blocks.4."))]
    moved = any(not torch.equal(first.net.state_dict()[n], whole.net.state_dict()[n]) for n in idle_names)
    assert moved == (idle == "momentum"), "AdamW, too, moves parameters with a zero gradient by its running mean"


def test_distillation_losses_equal_numpys():
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=(2, 5, 7))
    log_p = student - np.log(np.exp(student).sum(1, keepdims=True))
    q = np.exp(teacher) / np.exp(teacher).sum(1, keepdims=True)
    s, t = torch.tensor(student, requires_grad=True), torch.tensor(teacher)
    loss = SoftCrossEntropy().loss(s, t)
    assert loss.item() == pytest.approx(-(q * log_p).sum(1).mean())
    loss.backward()
    np.testing.assert_allclose(s.grad, (np.exp(log_p) - q) / 5, atol=1e-12)
    assert MeanSquaredError().loss(s, t).item() == pytest.approx(((student - teacher) ** 2).mean())
    assert NoDistillation().loss(s).item() == 0


def test_full_phase_loss_is_the_weighted_sum_of_the_exits():
    net = ofav2.build_supernet("EE_B", n_classes=10, width_mult=0.25, dropout_rate=0).train()
    recipe = load_recipe("paper")
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(4, 3, 32, 32, generator=generator), torch.tensor([1, 2, 3, 4])
    loss, _ = Objective(recipe, NoDistillation(), multi_exit_loss=True)(net, images, labels, None)
    smooth = F.one_hot(labels, 10) * 0.9 + 0.01
    by_hand = sum(
        weight * -(smooth * logits.log_softmax(1)).sum(1).mean()
        for weight, logits in zip((0.06, 0.13, 0.20, 0.27, 0.34), net.forward_exits(images), strict=True)
    )
    torch.testing.assert_close(loss, by_hand)


def test_a_teacher_teaches_every_exit_of_a_multi_exit_loss():
    net = ofav2.build_supernet("EE_B", n_classes=10, width_mult=0.25, dropout_rate=0).train()
    recipe = load_recipe("paper", ["exit_weights=UNIF", "kd_ratio=0.5", "label_smoothing=0"])
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(4, 3, 32, 32, generator=generator), torch.tensor([1, 2, 3, 4])
    teacher_logits = torch.randn(4, 10, generator=generator)
    loss, _ = Objective(recipe, SoftCrossEntropy(), multi_exit_loss=True)(net, images, labels, teacher_logits)
    targets = F.one_hot(labels, 10) + 0.5 * teacher_logits.softmax(1)  # both terms are cross-entropies
    by_hand = sum(-(targets * logits.log_softmax(1)).sum(1).mean() for logits in net.forward_exits(images)) / 5
    torch.testing.assert_close(loss, by_hand)


@pytest.mark.parametrize("supernet", ["SE_B", "EE_B"])
def test_soft_labels_are_mixed_labels(supernet):
    net = ofav2.build_supernet(supernet, n_classes=10, width_mult=0.25, dropout_rate=0).train()
    images, first = batch(0)
    objective = Objective(load_recipe("paper"), NoDistillation(), multi_exit_loss=True)
    second = first.flip(0)
    one, other = (objective(net, images, labels, None)[0] for labels in (first, second))
    mixed = 0.3 * F.one_hot(first, 10) + 0.7 * F.one_hot(second, 10)
    torch.testing.assert_close(objective(net, images, mixed, None)[0], 0.3 * one + 0.7 * other)


def test_exit_weights_of_the_strategies():
    assert exit_weights("ASC", 4) == pytest.approx((0.1, 0.2, 0.3, 0.4))
    assert exit_weights("DESC", 4) == pytest.approx((0.4, 0.3, 0.2, 0.1))
    assert exit_weights("UNIF", 4) == (0.25,) * 4
    assert exit_weights([0.5, 0.5], 1) == (1.0,)
    nan = float("nan")
    for wrong, words in (
        ("UP", "'UP'"),
        ([0.5, 0.4], "sum to 1"),
        ([1.0], "2 numbers"),
        ([1.5, -0.5], "at least 0"),
        ([nan, 1.0], "nan"),
        ([0.5, nan], "nan"),
        (["1", 0.0], "numbers"),
        ([True, 0.0], "numbers"),
    ):
        with pytest.raises(ofav2.UserError, match=words):
            exit_weights(wrong, 2)


def test_teacher_policies_name_their_source():
    finished = ["full", "kernel", "depth-1"]
    sources = {
        name: registry.load(registry.TEACHERS, name).source(finished) for name in ("none", "fixed", "progressive")
    }
    assert sources == {"none": None, "fixed": "full", "progressive": "depth-1"}


def test_the_teacher_is_the_ensemble_of_the_maximal_networks_exits():
    net = ofav2.build_supernet("EE_D", n_classes=10, width_mult=0.25)
    images = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    teacher = registry.load(registry.TEACHERS, "progressive")
    weights = (0.1, 0.1, 0.2, 0.2, 0.4)
    net.set_active_subnet(ks=3, height=2)
    teacher.bind(net, [images], weights)
    net.set_max_net()
    net.set_dropout(0)
    exits = net.train().forward_exits(images)
    by_hand = sum(weight * logits for weight, logits in zip(weights, exits, strict=True))
    got = teacher.logits(images)
    assert not got.requires_grad
    torch.testing.assert_close(got, by_hand.detach(), rtol=1e-4, atol=1e-5)


def test_sandwich_trains_the_largest_and_lets_its_exits_teach_the_others():
    net = ofav2.build_supernet("EE_B", n_classes=10, width_mult=0.25, dropout_rate=0).train()
    recipe, phase = load_recipe("paper"), registry.load(registry.PHASES, "sandwich")
    [step] = phase.steps(net.space)
    assert step.unlocks["ks"] == (3, 5, 7) and step.unlocks["height"] == (1, 2, 3, 4, 5)
    archs = phase.archs(net.space.restrict(step.unlocks), random.Random(0), 3)
    assert (archs[0], archs[-1], len(archs)) == (net.space.max_arch(), net.space.min_arch(), 3)

    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(4, 3, 32, 32, generator=generator), torch.tensor([1, 2, 3, 4])
    objective = Objective(recipe, SoftCrossEntropy(), inplace_distillation=True)
    weights = (0.06, 0.13, 0.20, 0.27, 0.34)
    net.set_active_subnet(**archs[0])
    exits = net.forward_exits(images)
    loss, teacher_logits = objective(net, images, labels, None, first=True)
    full, _ = Objective(recipe, NoDistillation(), multi_exit_loss=True)(net, images, labels, None)
    torch.testing.assert_close(loss, full)
    torch.testing.assert_close(teacher_logits, sum(w * y for w, y in zip(weights, exits, strict=True)).detach())
    assert not teacher_logits.requires_grad

    net.set_active_subnet(**archs[-1])
    logits = net(images)
    loss, passed_on = objective(net, images, labels, teacher_logits, first=False)
    torch.testing.assert_close(loss, -(teacher_logits.softmax(1) * logits.log_softmax(1)).sum(1).mean())
    assert passed_on is teacher_logits


def test_a_scaled_loss_steps_like_an_unscaled_one():
    images = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    labels, recipe, ends = torch.arange(8), load_recipe("paper"), []
    scaling = MixedPrecision("16-mixed", device="cpu", scaler=torch.amp.GradScaler("cpu", init_scale=1024))
    for fabric in (Fabric(accelerator="cpu", devices=1), Fabric(accelerator="cpu", devices=1, plugins=scaling)):
        with forked_torch(0):
            net = ofav2.build_supernet("SE_B", n_classes=10, width_mult=0.25, dropout_rate=0).train()
        before = net.classifier.linear.weight.detach().clone()
        optimizer = fabric.setup_optimizers(make_optimizer(net, recipe, LR))
        objective = Objective(recipe, NoDistillation(), multi_exit_loss=True)
        train_batch(fabric, net, optimizer, objective, images, labels, [net.space.max_arch()], NoTeacher())
        ends.append(net.classifier.linear.weight.detach() - before)
    # Half precision through 21 batch norms of 8 images; without unscaling it would be 1024 times as large.
    assert (ends[0] - ends[1]).norm() < 0.25 * ends[0].norm()
