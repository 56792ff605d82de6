"""Running a plan: every step from the checkpoint it follows to its best weights and measured subnets.

A step's folder is named by the step and a hash of everything that its result depends on: recipe, data, seed, the
step it starts from, the step that teaches it. So a resumed run finds what is finished, a changed recipe cannot be
mistaken for the old one, and arms of a study that share a step (the same full phase) compute it once.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from . import __version__, registry
from .checkpoint import load_checkpoint, read_json, write_json
from .data.base import DataSplits
from .data.batches import steps_per_epoch
from .distillation.base import Distillation
from .errors import RunError, UserError
from .evaluate import Candidate, Evaluator, candidates
from .exit_weights import exit_weights
from .pipeline import NONE, PlannedStep, make_plan
from .progress import Reporter, duration
from .recipes import Recipe
from .seeding import forked_torch
from .space import SearchSpace
from .supernet import Supernet, build_supernet
from .teachers.base import Teacher
from .trainer import StepTrainer, batch_units
from .variants import resolve_spec


@dataclass(frozen=True)
class Arm:
    """One training of a study, or the one of `ofav2 train`.

    Args:
        name: What it is called in tables and charts.
        supernet: A variant's name or a composition.
        recipe: The recipe, with the arm's own teacher, distillation and overrides in it.
        seed: Seed of everything random.
    """

    name: str
    supernet: str
    recipe: Recipe
    seed: int

    def build(self, n_classes: int) -> Supernet:
        """The arm's supernet with fresh weights, the same for the same seed."""
        with forked_torch(self.seed, "init"):
            return build_supernet(self.supernet, n_classes, width_mult=self.recipe.width_mult)

    def teacher(self) -> Teacher:
        """A new teacher of the arm's policy, not bound yet."""
        return registry.load(registry.TEACHERS, self.recipe.teacher)

    def distillation(self) -> Distillation:
        """The arm's distillation term. Raises UserError where it needs a teacher and there is none."""
        distillation = registry.load(registry.DISTILLATION, self.recipe.distillation)
        if self.recipe.teacher == NONE and distillation.needs_teacher:
            return registry.load(registry.DISTILLATION, NONE)
        return distillation

    def plan(self, space: SearchSpace) -> list[PlannedStep]:
        """The arm's steps."""
        return make_plan(space, self.recipe, self.teacher())


class ArmRun:
    """Trains and measures one arm; finished steps are found in `steps_folder` and not computed again."""

    def __init__(self, arm: Arm, data: DataSplits, steps_folder: Path, fabric: Fabric):
        self.arm, self.data, self.fabric = arm, data, fabric
        self.steps_folder = steps_folder
        self.net = self._fresh_net()
        self.plan = arm.plan(self.net.space)
        self.distillation = arm.distillation()
        self.evaluator = Evaluator(data, arm.recipe, fabric.device, arm.seed)
        self.folders = self._folders()

    def _fresh_net(self) -> Supernet:
        net = self.arm.build(self.data.n_classes)
        return net.to(self.fabric.device, memory_format=torch.channels_last)

    def _folders(self) -> dict[str, Path]:
        """The folder of each step, by the hash of what its result depends on."""
        keys: dict[str, str] = {}
        for planned in self.plan:
            facts = step_facts(self.arm, self.data, planned, self.net.space)
            facts["starts_from"] = keys[planned.starts_from] if planned.starts_from else None
            facts["teacher"] = keys[planned.teacher] if planned.teacher else None
            digest = hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=6)
            keys[planned.name] = digest.hexdigest()
        return {name: self.steps_folder / f"{name}-{key}" for name, key in keys.items()}

    def units(self) -> float:
        """The work of the whole arm, in images through a network."""
        return sum(self._training_units(p) + self._evaluation_units(p) for p in self.plan)

    def run(self, reporter: Reporter) -> list[dict[str, Any]]:
        """Run what is not finished; returns the `phases` of a results row."""
        phases = []
        for planned in self.plan:
            folder = self.folders[planned.name]
            if not (folder / "trained.json").exists():
                self._train(planned, folder, reporter)
            else:
                reporter.skip(self._training_units(planned))
            phases.append(self._measured(planned, folder, reporter))
            entry = phases[-1]
            reporter.line(
                f"{self.arm.name}: {planned.name:9s} best {entry['best_top1']:4.1f} %, "
                f"mean {entry['mean_top1']:4.1f} %, took {duration(entry['seconds'])}; {reporter.eta()}"
            )
        return phases

    def _train(self, planned: PlannedStep, folder: Path, reporter: Reporter) -> None:
        if planned.starts_from is not None:
            self._load(planned.starts_from)
        planned.phase.prepare(self.net, planned.step)
        trainer = StepTrainer(
            fabric=self.fabric,
            net=self.net,
            data=self.data,
            recipe=self.arm.recipe,
            planned=planned,
            teacher=self._bound_teacher(planned),
            distillation=self.distillation,
            evaluator=self.evaluator,
            seed=self.arm.seed,
            folder=folder,
            reporter=reporter,
        )
        write_json(folder / "trained.json", {**vars(trainer.run()), "plan": planned.to_dict()})
        for state in folder.glob("state*.safetensors"):
            state.unlink()

    def _load(self, step: str) -> None:
        tensors, _ = load_checkpoint(self.folders[step] / "best.safetensors")
        self.net.load_state_dict(tensors)

    def _bound_teacher(self, planned: PlannedStep) -> Teacher:
        if planned.teacher is None:
            return registry.load(registry.TEACHERS, NONE)
        teacher, supernet = self.arm.teacher(), self._fresh_net()
        supernet.load_state_dict(load_checkpoint(self.folders[planned.teacher] / "best.safetensors")[0])
        n_exits = len(supernet.exits) + 1
        teacher.bind(
            supernet,
            self.evaluator.calibration(max(self.evaluator.resolutions)),
            exit_weights(self.arm.recipe.exit_weights.output, n_exits),
            self.arm.recipe.teacher_batch_statistics,
        )
        return teacher

    def _measured(self, planned: PlannedStep, folder: Path, reporter: Reporter) -> dict[str, Any]:
        chosen = self._candidates(planned)
        settings = self.arm.recipe.evaluation.model_dump()
        path = folder / "measured.json"
        if path.exists():
            measured = read_json(path)
            if measured["settings"] == settings:
                reporter.skip(self._evaluation_units(planned))
                return measured["phase"]
        self._load(planned.name)
        started, subnets = time.monotonic(), []
        for i, candidate in enumerate(chosen, start=1):
            subnets.append(self.evaluator.measure(self.net, candidate).to_dict())
            note = f"measuring subnet {i}/{len(chosen)}"
            reporter.advance(self.evaluator.images_per_candidate, planned.name, note)
        trained = read_json(folder / "trained.json")
        phase = summary(planned.name, subnets, trained["seconds"] + time.monotonic() - started)
        write_json(path, {"settings": settings, "phase": phase})
        return phase

    def _candidates(self, planned: PlannedStep) -> list[Candidate]:
        return candidates(
            planned.space,
            self.evaluator.resolutions,
            full=tuple(planned.opens),
            ensemble=planned.phase.all_exits,
            limit=self.arm.recipe.evaluation.max_subnets,
            seed_parts=(self.arm.seed, planned.name, "measure"),
        )

    def _training_units(self, planned: PlannedStep) -> float:
        epochs = planned.settings.epochs + planned.settings.warmup_epochs
        batch_size = self.arm.recipe.batch_size
        n_batches = steps_per_epoch(len(self.data.train), batch_size)
        return epochs * n_batches * batch_units(planned, batch_size)

    def _evaluation_units(self, planned: PlannedStep) -> float:
        return len(self._candidates(planned)) * self.evaluator.images_per_candidate


def step_facts(arm: Arm, data: DataSplits, planned: PlannedStep, space: SearchSpace) -> dict[str, Any]:
    """What a trained step depends on besides the steps before it; what it does not use is left out."""
    recipe = arm.recipe
    facts: dict[str, Any] = {
        "spec": resolve_spec(arm.supernet).to_dict(),
        "space": space.to_dict(),
        "phase": planned.phase.name,
        "step": planned.step,
        "opens": {dim: list(grades) for dim, grades in planned.opens.items()},
        "settings": vars(planned.settings),
        "seed": arm.seed,
        "data": data.fingerprint,
        "recipe": recipe.model_dump(
            include={
                "width_mult",
                "resolutions",
                "batch_size",
                "label_smoothing",
                "optimizer",
                "augmentation",
            }
        ),
        "selection": recipe.evaluation.model_dump(include={"bn_images", "selection_draws", "batch_size"}),
        "checkpoints": 1,  # raise it when a new version trains other weights from the same facts
    }
    if planned.phase.all_exits:
        facts["exit_weights"] = recipe.exit_weights.model_dump() if "height" in space else None
    if planned.teacher is not None:
        facts["distillation"] = recipe.model_dump(include={"distillation", "kd_ratio", "teacher_batch_statistics"})
        facts["teacher_weights"] = recipe.exit_weights.model_dump() if "height" in space else None
    return facts


def summary(name: str, subnets: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """One `phases` entry of a results row: accuracies in percent on the test set.

    `best_top1` is the test accuracy of the subnet best on validation; nothing is chosen by the test set but
    `test_max_top1`, which is what the paper charts.
    """
    tops = [subnet["top1"] for subnet in subnets]
    return {
        "name": name,
        "best_top1": max(subnets, key=lambda subnet: subnet["val_top1"])["top1"],
        "test_max_top1": max(tops),
        "mean_top1": sum(tops) / len(tops),
        "min_top1": min(tops),
        "seconds": seconds,
        "subnets": subnets,
    }


def open_run_folder(out: Path, kind: str, settings: dict[str, Any], resume: bool) -> None:
    """Make `out` this run's folder, or check that it is.

    Raises:
        RunError: It holds something else, another run, or this run and `resume` is not asked for; nothing in it
            has changed then.
    """
    mark = out / "run.json"
    if out.exists() and not out.is_dir():
        raise RunError(f"--out must be a folder, but {out} is a file")
    if mark.exists():
        held = read_json(mark)
        if not (isinstance(held, dict) and "kind" in held and isinstance(held.get("settings"), dict)):
            raise RunError(f"{out} is not empty and its run.json is no run of ofav2; choose another --out")
        if held.get("kind") != kind:
            raise RunError(
                f"{out} holds a run of `ofav2 {held.get('kind')}`, not of `ofav2 {kind}`; choose another --out"
            )
        changed = [key for key, value in settings.items() if held["settings"].get(key) != value]
        if changed:
            raise RunError(
                f"{out} holds another run: {changed[0]} was {held['settings'].get(changed[0])!r}, "
                f"but got {settings[changed[0]]!r}; choose another --out or repeat the old settings"
            )
        if not resume:
            raise RunError(f"{out} holds this run already; add --resume to continue it, or choose another --out")
        return
    if out.exists() and any(out.iterdir()):
        raise RunError(f"{out} is not empty and holds no run of ofav2; choose another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"--out {out} cannot be made: {error.strerror}") from error
    write_json(mark, {"kind": kind, "version": __version__, "settings": settings})


def make_fabric(accelerator: str = "auto", precision: str = "32-true") -> Fabric:
    """A launched single-device Fabric."""
    try:
        fabric = Fabric(accelerator=accelerator, devices=1, precision=precision)  # type: ignore[arg-type]
    except (RuntimeError, ValueError) as error:
        raise UserError(f"--device {accelerator} --precision {precision} cannot be used here: {error}") from error
    fabric.launch()
    return fabric


def environment() -> dict[str, Any]:
    """The machine and versions that a result was measured with."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S"),
        "machine": platform.machine(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "ofav2_plugins": __version__,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def load_data(dataset: str, root: Path | None, recipe: Recipe, seed: int) -> DataSplits:
    """A dataset by plugin name. Raises UserError where it is unknown, missing, damaged or too small."""
    data = registry.load(registry.DATASETS, dataset).load(
        root, validation_fraction=recipe.validation_fraction, seed=seed
    )
    if data.n_classes < 2:
        raise UserError(f"dataset {dataset!r} must have at least 2 classes, but got {data.n_classes}")
    return data
