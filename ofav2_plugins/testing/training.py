"""Contract tests of the parts of a training: phases, distillation losses, teachers."""

from __future__ import annotations

import copy
import random

import torch

from ..distillation.base import Distillation
from ..models.supernet import Supernet, build_supernet
from ..phases.base import Phase
from ..recipes.schema import load_recipe
from ..teachers.base import Teacher
from ..training.plan import make_plan
from ..utils.seeding import forked_torch


def _net(supernet: str) -> Supernet:
    return build_supernet(supernet, n_classes=3, width_mult=0.25)


def check_phase(plugin: Phase) -> None:
    """Check on a small and a large space that steps unlock existing values and architectures are in the space."""
    for supernet in ("SE_B", "EE_DP"):
        net = _net(supernet)
        supported = plugin.supports(net.space)
        assert isinstance(supported, bool), f"{plugin.name}: supports must give True or False, but got {supported!r}"
        unlocked = net.space.max_only()
        for number, step in enumerate(plugin.steps(net.space) if supported else [], start=1):
            unlocked = unlocked.restrict(step.unlocks)
            assert step.defaults.epochs > 0, f"{plugin.name}: a step must have epochs, but got {step.defaults}"
            plugin.prepare(net, number)
            archs = plugin.archs(unlocked, random.Random(0), 3)
            assert archs, f"{plugin.name} must give architectures to train"
            for arch in archs:
                assert net.space.parse(arch) == arch, f"{plugin.name}: {arch} is not an architecture of the space"


def check_distillation(plugin: Distillation) -> None:
    """Check for a finite scalar with a gradient for the student only, smallest if both agree on every image."""
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(4, 5, generator=generator).requires_grad_()
    teacher = torch.randn(4, 5, generator=generator)
    loss = plugin.loss(student, teacher)
    assert loss.shape == (), f"{plugin.name}: the loss must be a scalar, but got the shape {list(loss.shape)}"
    assert torch.isfinite(loss), f"{plugin.name}: the loss must be finite, but got {loss.item()}"
    if plugin.needs_teacher:
        loss.backward()
        assert student.grad is not None and student.grad.abs().sum() > 0, f"{plugin.name} must give a gradient"
        equal, other = plugin.loss(teacher, teacher), plugin.loss(teacher.flip(1), teacher)
        assert equal <= other, f"{plugin.name}: equal logits must not cost more ({equal}) than others ({other})"


def check_teacher(plugin: Teacher) -> None:
    """Check that it names only finished steps, has no logits before it is bound, and can restore its state."""
    finished = ["full", "kernel", "depth-1"]
    assert plugin.source([]) is None, f"{plugin.name}: without a finished step, source must be None"
    source = plugin.source(finished)
    assert source in (None, *finished), f"{plugin.name}: source must be one of {finished} or None, but got {source!r}"
    assert plugin.logits(torch.zeros(1, 3, 32, 32)) is None, f"{plugin.name}: logits must be None before bind"
    plan = make_plan(_net("SE_B").space, load_recipe("quick"), plugin)
    names = [step.name for step in plan]
    for i, step in enumerate(plan):
        assert step.teacher is None or step.teacher in names[:i], (
            f"{plugin.name}: {step.teacher} is not before {names[i]}"
        )
    if source is not None:
        _check_state(plugin)


def _check_state(plugin: Teacher) -> None:
    """Check that `after_step` leaves the student unchanged, and that the saved state restores the same logits."""
    with forked_torch("contract"):
        student = _net("EE_B")
        images = torch.randn(4, 3, 32, 32)
    bound, restored = copy.deepcopy(plugin), copy.deepcopy(plugin)
    for teacher in (bound, restored):
        teacher.bind(copy.deepcopy(student), [images], [0.2] * 5)
    for _ in range(2):
        with torch.no_grad():
            for parameter in student.parameters():
                parameter.mul_(1.1)
        changed = {name: value.clone() for name, value in student.state_dict().items()}
        bound.after_step(student)
        for name, value in changed.items():
            assert torch.equal(student.state_dict()[name], value), f"{plugin.name}: after_step changed {name}"
    logits = bound.logits(images)
    assert logits is not None and logits.shape == (4, 3), f"{plugin.name}: a bound teacher must give logits [4, 3]"
    assert not logits.requires_grad, f"{plugin.name}: logits must come without a gradient"
    restored.load_state_dict({name: value.clone() for name, value in bound.state_dict().items()})
    again = restored.logits(images)
    assert again is not None and torch.equal(again, logits), f"{plugin.name}: load_state_dict must restore the logits"
    if not plugin.follows_student:
        assert not bound.state_dict(), f"{plugin.name}: a teacher with a state must set follows_student"
