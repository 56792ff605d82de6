"""Third-party plugins that break their contract are found before work starts, with plugin, distribution and file."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.commands import SMALL, ofav2, overrides
from support.plugins import third_party

from ofav2_plugins import registry

MODULE = """
import torch
from torch import nn
from ofav2_plugins.augmentation.base import Augmentation
from ofav2_plugins.branches.base import Branch
from ofav2_plugins.data.base import Dataset
from ofav2_plugins.data.fashion_mini import FashionMini
from ofav2_plugins.distillation.base import Distillation
from ofav2_plugins.exits.base import Exits
from ofav2_plugins.exits.every_stage import EveryStage
from ofav2_plugins.phases.base import Phase, PhaseStep, StepSettings
from ofav2_plugins.phases.kernel import Kernel
from ofav2_plugins.skips.base import Skip
from ofav2_plugins.teachers.fixed import Fixed

class Late(nn.Module):
    config = {}
    def __init__(self, i, o, s):
        super().__init__()
        self.conv = nn.Conv2d(i, o, 1, s)
    def forward(self, x):
        if self.training:
            raise KeyError("late")
        return self.conv(x)
class LateBranch(Branch):
    def build(self, in_channels, out_channels, stride, act_func):
        branch = Late(in_channels, out_channels, stride)
        branch.config = dict(in_channels=in_channels, out_channels=out_channels, stride=stride, act_func=act_func)
        return branch
class CroppingSkip(Skip):
    def run(self, blocks, x):
        for block in blocks:
            x = block(x)
        return x[:, :, 1:]
class RaisingSkip(Skip):
    def run(self, blocks, x):
        raise KeyError("no such wire")
class NaNSkip(Skip):
    def run(self, blocks, x):
        for block in blocks:
            x = block(x)
        return x * float("nan")
class WrongExits(EveryStage):
    def heads(self, stage_widths, n_classes, dropout):
        return super().heads(stage_widths, n_classes + 1, dropout)
class PlainExits(Exits):
    def heads(self, stage_widths, n_classes, dropout):
        return nn.ModuleDict({"2": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                                                 nn.Linear(stage_widths[1], n_classes))})
class VectorLoss(Distillation):
    def loss(self, student_logits, teacher_logits):
        return (student_logits - teacher_logits).abs().mean(1)
class NaNLoss(Distillation):
    def loss(self, student_logits, teacher_logits):
        return student_logits.mean() * float("nan")
class RaisingLoss(Distillation):
    def loss(self, student_logits, teacher_logits):
        return torch.cat([student_logits, teacher_logits[:, 1:]]).mean()
class UnknownTeacher(Fixed):
    def source(self, finished):
        return "somewhere"
class SmallTeacher(Fixed):
    def logits(self, images):
        return super().logits(images)[:, :3]
class NoneDataset(Dataset):
    def load(self, root=None, *, validation_fraction=0.15, seed=0):
        return None
class EmptyAugmentation(Augmentation):
    def apply(self, images, labels, context):
        return images[:0], labels[:0]
class RaisingPhase(Kernel):
    after = ("full",)
    def steps(self, space):
        raise KeyError("steps")
class NoArchPhase(Kernel):
    after = ("full",)
    def archs(self, space, rng, n):
        return [{"ks": 99}]
"""
NAMESPACES = {
    "Branch": registry.BRANCHES,
    "Skip": registry.SKIPS,
    "Exits": registry.EXITS,
    "Loss": registry.DISTILLATION,
    "Teacher": registry.TEACHERS,
    "Dataset": registry.DATASETS,
    "Augmentation": registry.AUGMENTATIONS,
    "Phase": registry.PHASES,
}
CASES = {
    "LateBranch": ("branches=latebranch", [], ["KeyError", "late"]),
    "CroppingSkip": ("skip=croppingskip", [], ["run() must return a tensor", "but got"]),
    "RaisingSkip": ("skip=raisingskip", [], ["fails in run", "no such wire"]),
    "NaNSkip": ("skip=nanskip", [], ["finite numbers", "NaN"]),
    "WrongExits": ("exits=wrongexits", [], ["logits [N, 10]", "but got [2, 11]"]),
    "PlainExits": ("exits=plainexits", [], ["`config`"]),
    "VectorLoss": ("SE_B", ["--distillation", "vectorloss"], ["finite scalar", "shape [2]"]),
    "NaNLoss": ("SE_B", ["--distillation", "nanloss"], ["finite scalar", "nan"]),
    "RaisingLoss": ("SE_B", ["--distillation", "raisingloss"], ["fails in loss", "RuntimeError"]),
    "UnknownTeacher": ("SE_B", ["--teacher", "unknownteacher"], ["source()", "'somewhere'"]),
    "SmallTeacher": ("SE_B", ["--teacher", "smallteacher"], ["finite logits [2, 10]", "but got [2, 3]"]),
    "NoneDataset": ("SE_B", ["--dataset", "nonedataset"], ["load() must return DataSplits", "None"]),
    "EmptyAugmentation": ("SE_B", ["--set", "augmentation=emptyaugmentation"], ["apply() must return", "[0, 1,"]),
    "RaisingPhase": ("SE_B", ["--set", "phases={full: {epochs: 1}, raisingphase: {epochs: 1}}"], ["fails in steps"]),
    "NoArchPhase": ("SE_B", ["--set", "phases={full: {epochs: 1}, noarchphase: {epochs: 1}}"], ["archs()", "99"]),
}


@pytest.fixture(scope="module")
def broken(tmp_path_factory) -> Path:
    """A distribution of broken plugins."""
    folder = tmp_path_factory.mktemp("site")
    info = third_party(folder, {}, MODULE, "brokenplugins")
    assert info
    entries = {}
    for name in CASES:
        namespace = next(space for suffix, space in NAMESPACES.items() if name.endswith(suffix))
        entries.setdefault(namespace, []).append(f"{name.lower()} = brokenplugins:{name}")
    text = "\n".join("\n".join([f"[{space}]", *lines]) for space, lines in entries.items())
    (folder / "brokenplugins-1.0.dist-info" / "entry_points.txt").write_text(text)
    return folder


@pytest.mark.parametrize("name", CASES)
def test_a_broken_plugin_is_found_before_work_starts(broken, name, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(broken)
    supernet, options, words = CASES[name]
    out = tmp_path / "out"
    error = ofav2("train", "--supernet", supernet, "--set", "resolutions=[16]", *options, "--out", out).error
    for word in [name.lower(), "brokenplugins 1.0", str(broken / "brokenplugins.py"), *words]:
        assert word in error
    assert not out.exists()


def test_finetune_finds_what_the_training_did_not_use(broken, monkeypatch, tmp_path):
    """The full phase has no teacher, so only `finetune --distill` uses the distillation."""
    monkeypatch.syspath_prepend(broken)
    recipe = [*SMALL, "phases={full: {epochs: 1}}", "distillation=vectorloss"]
    trained = ofav2("train", "--supernet", "SE_B", "--out", tmp_path / "run", *overrides(*recipe))
    assert trained.returncode == 0, trained.stderr
    (tmp_path / "arch.json").write_text('{"d": 4}')
    out = tmp_path / "out"
    error = ofav2("finetune", tmp_path / "run", "--arch", tmp_path / "arch.json", "--out", out, "--distill").error
    for word in ["vectorloss", "brokenplugins 1.0", "finite scalar", "shape [2]"]:
        assert word in error
    assert not out.exists()


@pytest.mark.parametrize("name", ["CroppingSkip", "VectorLoss"])
def test_plan_finds_it_too(broken, name, monkeypatch):
    monkeypatch.syspath_prepend(broken)
    supernet, options, words = CASES[name]
    error = ofav2("plan", "--supernet", supernet, "--recipe", "quick", *options).error
    assert all(word in error for word in ["brokenplugins 1.0", *words])


def test_doctor_runs_the_contract_tests_of_other_distributions(broken, monkeypatch):
    monkeypatch.syspath_prepend(broken)
    found = ofav2("doctor")
    assert found.returncode == 1
    for name in ("croppingskip", "vectorloss", "plainexits", "nonedataset"):
        assert f"wrong plugin {name}: brokenplugins" in found.stdout
    assert "Traceback" not in found.stdout + found.stderr
