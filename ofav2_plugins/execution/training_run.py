"""Executes the plan of a run: trains each step from its initial weights, then measures subnets.

A step's folder is named by the step and its cache key: a hash of the recipe, the data, the seed, the step it starts
from and its teacher step. A resumed run finds its finished steps, a changed recipe never reuses old steps, and runs
of a study that share a step (the same full phase) compute it once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from lightning_fabric import Fabric

from .. import registry
from ..data.base import DataSplits, check_splits
from ..data.batches import steps_per_epoch
from ..errors import RunError, UserError
from ..evaluation.accuracy import Evaluator
from ..evaluation.candidates import Candidate, by_trunk
from ..exits.weights import exit_weights, only_trained
from ..loggers.base import RunInfo
from ..loggers.jsonl import METRICS, write_metrics
from ..models.supernet import Supernet
from ..plugin import describe_reference
from ..teachers.base import Teacher
from ..training.checkpoints import StepFiles
from ..training.context import RunContext
from ..training.cost import training_macs
from ..training.plan import INIT, NONE, PlannedStep
from ..training.run_config import RunConfig
from ..training.trainer import StepTrainer, batch_work
from ..utils.distributed import any_rank, check_batch_size, from_rank_zero, map_over_ranks, synchronize
from ..utils.tensor_files import load_checkpoint
from .cache_key import step_folder_names
from .measuring import measured_before, measured_candidates, measuring_settings
from .provenance import code_versions
from .records import (
    FINAL,
    MEASURED,
    TRAINED,
    metrics_differ,
    phase_result,
    read_trained,
    write_measured,
    write_trained,
)

SAVE_SECONDS = 10
"""Minimum interval between two writes of measured subnets: thousands of them make a large file."""


class TrainingRun:
    """Trains and measures one run; finished steps in `steps_folder` are not computed again.

    Args:
        config: The run.
        data: The splits.
        steps_folder: The parent of the steps' folders; the runs of a study share it.
        fabric: Device, precision, processes.

    Raises:
        UserError: The recipe contradicts itself or does not fit the supernet, the data or the number of processes.
    """

    def __init__(self, config: RunConfig, data: DataSplits, steps_folder: Path, fabric: Fabric):
        self.config, self.data, self.fabric = config, data, fabric
        check_batch_size(fabric, config.recipe.batch_size, len(data.train))
        net, self.notes = config.start(data.n_classes)
        self.space, self.exits = net.space, [*map(int, net.exits), net.n_stages]
        self.plan = config.plan(net.space)
        self.distillation = registry.load(registry.DISTILLATION, config.recipe.distillation)
        self._check()
        self.steps_folder = steps_folder
        names = step_folder_names(config, self.plan, self.space, data.fingerprint)
        self.folders = {step: steps_folder / name for step, name in names.items()}

    def _check(self) -> None:
        """Raise UserError for contradictions that would otherwise surface in the middle of the run."""
        recipe = self.config.recipe
        for weights in (recipe.exit_weights.loss, recipe.exit_weights.output):
            exit_weights(weights, len(self.exits))
        inplace_distillation = [planned.phase.name for planned in self.plan if planned.phase.inplace_distillation]
        if inplace_distillation and (not self.distillation.needs_teacher or recipe.kd_ratio == 0):
            raise UserError(
                f"phase {inplace_distillation[0]!r} trains by distillation alone: it needs a distillation and a "
                f"kd_ratio above 0, but got {describe_reference(recipe.distillation)!r} and {recipe.kd_ratio:g}"
            )
        if self.config.teacher().follows_student and not recipe.teacher_batch_statistics:
            raise UserError(
                f"teacher {describe_reference(recipe.teacher)!r} follows the student, so its batch norms have no "
                "statistics of their own: teacher_batch_statistics must be true, but got false"
            )
        first = self.plan[0].phase
        if first.distills and self.config.initial is None:
            self.notes.append(f"phase {first.name!r} starts from fresh weights: no phase precedes it")

    @cached_property
    def net(self) -> Supernet:
        """The supernet; built at first use, freed at the end of the run."""
        return self._placed(self.config.build(self.data.n_classes))

    @cached_property
    def evaluator(self) -> Evaluator:
        """Measures subnets. Its calibration images are freed at the end of the run."""
        return Evaluator(self.data, self.config.recipe, self.fabric, self.config.seed)

    def _placed(self, net: Supernet) -> Supernet:
        return net.to(self.fabric.device).to(memory_format=torch.channels_last)

    def work(self) -> float:
        """The work of the whole run in image passes."""
        return sum(map(self._step_work, self.plan))

    def remaining_work(self) -> float:
        """The work of the steps that are not trained yet, in image passes."""
        return sum(self._step_work(p) for p in self.plan if not (self.folders[p.name] / TRAINED).exists())

    def run(self, context: RunContext) -> Iterator[dict[str, Any]]:
        """Run the unfinished steps; yields each step's entry of `phases` in a results row when it is finished.

        Raises:
            KeyboardInterrupt: The user stopped the run; all work is saved.
            UserError: The loss is not finite, a plugin fails, a file is damaged or cannot be written.
        """
        context, status = context.for_run(self.fabric.is_global_zero), "failed"
        config = self.config
        info = RunInfo(
            config.name, config.seed, {"dataset": self.data.name, **config.to_dict()}, self.steps_folder.parent
        )
        context.loggers.emit("run_started", info)
        try:
            for planned in self.plan:
                files = StepFiles(self.folders[planned.name], context.reporter.line)
                if any_rank(self.fabric, not finished(files)):
                    self._train(planned, files, context)
                else:
                    context.reporter.skip(self._training_work(planned))
                    self._tidy(files)
                yield self._measured(planned, files, context)
            status = "finished"
        except (KeyboardInterrupt, GeneratorExit):
            status = "stopped"
            raise
        finally:
            context.loggers.emit("run_finished", status)
            for part in ("net", "evaluator"):  # free their memory, because a study has many runs
                self.__dict__.pop(part, None)

    def _train(self, planned: PlannedStep, files: StepFiles, context: RunContext) -> None:
        if self.fabric.is_global_zero:  # records of earlier weights
            for name in (TRAINED, MEASURED, FINAL):
                (files.folder / name).unlink(missing_ok=True)
        self._load(planned.starts_from or INIT)
        trainer = StepTrainer(
            fabric=self.fabric,
            net=self.net,
            data=self.data,
            recipe=self.config.recipe,
            planned=planned,
            teacher=self.bound_teacher(planned),
            distillation=self.distillation,
            evaluator=self.evaluator,
            seed=self.config.seed,
            files=files,
            context=context,
        )
        progress = trainer.run()
        if self.fabric.is_global_zero:
            resolutions, n_images = self.evaluator.resolutions, len(self.data.train)
            macs = training_macs(self.net, planned, self.config.recipe, n_images, resolutions, self.config.seed)
            trained = {**vars(progress), "training_macs": macs, "plan": planned.to_dict(), "code": code_versions()}
            write_trained(files.folder, trained)
            files.drop_states()
        synchronize(self.fabric)

    def _tidy(self, files: StepFiles) -> None:
        """Write a finished step's metrics again if they differ from its record."""
        if not self.fabric.is_global_zero:
            return
        files.drop_states()  # the process may have been killed before it removed them
        history = read_trained(files.folder)["history"]
        if metrics_differ(files.folder, history):
            write_metrics(files.folder / METRICS, history)
            files.say(f"{files.folder / METRICS} was missing or damaged; it is written again")

    def _best(self, step: str) -> Mapping[str, torch.Tensor]:
        if step == INIT:
            return self.config.start(self.data.n_classes)[0].state_dict()
        return load_checkpoint(self.folders[step] / "best.safetensors")[0]

    def _load(self, step: str) -> None:
        self.net.load_state_dict(self._best(step))

    def bound_teacher(self, planned: PlannedStep) -> Teacher:
        """The teacher of a step, with the weights of its teacher step; `NoTeacher` if the step has none."""
        if planned.teacher is None:
            null: Teacher = registry.load(registry.TEACHERS, NONE)
            return null
        teacher, supernet = self.config.teacher(), self._placed(self.config.build(self.data.n_classes))
        supernet.load_state_dict(self._best(planned.teacher))
        weights = exit_weights(self.config.recipe.exit_weights.output, len(self.exits))
        teacher.bind(
            supernet,
            self.evaluator.calibration(max(self.evaluator.resolutions)),
            only_trained(weights, self.exits, self.trained_exits(planned.teacher)),
            self.config.recipe.teacher_batch_statistics,
        )
        return teacher

    def trained_exits(self, step: str) -> set[int]:
        """The exits that are trained when a step is finished; the teacher's ensemble omits the others."""
        every = set(self.exits)
        trained = every if self.config.initial and self.config.initial.has_exits else {self.exits[-1]}
        for planned in self.plan if step != INIT else []:
            if planned.phase.multi_exit_loss or planned.phase.inplace_distillation:
                trained = every
            elif "height" in planned.space:
                trained = trained | set(map(int, planned.space.unlocked_values("height")))
            if planned.name == step:
                break
        return trained

    def _measured(self, planned: PlannedStep, files: StepFiles, context: RunContext) -> dict[str, Any]:
        """The step's entry of a results row; subnets that an earlier session measured are not measured again."""
        groups = by_trunk(self._candidates(planned))
        name = FINAL if self._is_last(planned) else MEASURED
        settings = measuring_settings(self.config.recipe, len(self.exits))
        record, n_done = from_rank_zero(self.fabric, measured_before(files, name, settings, groups))
        context.reporter.skip((n_done + ("exits" in record)) * self.evaluator.images_per_candidate)
        remaining = groups[n_done:]
        remaining_exits = [None] if len(self.exits) > 1 and "exits" not in record else []
        if remaining or remaining_exits:
            self._load(planned.name)
        started, before, saved = time.monotonic(), record["seconds"], -math.inf
        for exits in map_over_ranks(self.fabric, lambda _: self.evaluator.measure_exits(self.net), remaining_exits):
            record.update(exits)
            context.reporter.advance(self.evaluator.images_per_candidate, planned.name, "measuring every exit")
            if self.fabric.is_global_zero:
                write_measured(files.folder, record, name)
        n_subnets = sum(map(len, groups))
        for subnets in map_over_ranks(self.fabric, partial(self.evaluator.measure_trunk, self.net), remaining):
            record["subnets"] += [subnet.to_dict() for subnet in subnets]
            record["seconds"] = before + time.monotonic() - started
            note = f"measuring subnet {len(record['subnets'])}/{n_subnets}"
            context.reporter.advance(self.evaluator.images_per_candidate, planned.name, note)
            stopping = any_rank(self.fabric, context.stop.requested)
            finished = len(record["subnets"]) == n_subnets
            if self.fabric.is_global_zero and (stopping or finished or time.monotonic() - saved > SAVE_SECONDS):
                write_measured(files.folder, record, name)
                saved = time.monotonic()
            if stopping:
                raise KeyboardInterrupt
        result = phase_result(planned.name, record, read_trained(files.folder))
        if remaining or remaining_exits:
            context.loggers.emit("evaluated", planned.name, MappingProxyType(result))
        return result

    def _candidates(self, planned: PlannedStep) -> list[Candidate]:
        return measured_candidates(self.config, planned, self.evaluator, self._is_last(planned))

    def _is_last(self, planned: PlannedStep) -> bool:
        return planned.name == self.plan[-1].name

    def _step_work(self, planned: PlannedStep) -> float:
        return self._training_work(planned) + self._evaluation_work(planned)

    def _training_work(self, planned: PlannedStep) -> float:
        epochs = planned.settings.epochs + planned.settings.warmup_epochs
        batch_size = self.config.recipe.batch_size
        n_batches = steps_per_epoch(len(self.data.train), batch_size)
        return epochs * n_batches * batch_work(planned, min(batch_size, len(self.data.train)))

    def _evaluation_work(self, planned: PlannedStep) -> float:
        passes = len(by_trunk(self._candidates(planned))) + (len(self.exits) > 1)
        return passes * self.evaluator.images_per_candidate


def finished(files: StepFiles) -> bool:
    """Whether a step is trained and its record and best weights are undamaged; otherwise it is trained again."""
    if not (files.folder / TRAINED).exists():
        return False
    try:
        read_trained(files.folder)
        files.load_best()
    except RunError as error:
        files.say(f"{error}; this step is trained again")
        return False
    return True


def load_data(dataset: Any, root: Path | None, validation_fraction: float) -> DataSplits:
    """The splits of a dataset plugin; they are the same for every seed.

    Raises:
        UserError: The dataset is unknown, missing, damaged or too small, or breaks the contract of datasets.
    """
    plugin = registry.load(registry.DATASETS, dataset)
    with registry.calling(registry.DATASETS, plugin.name, "load", passing=UserError):
        loaded = plugin.load(root, validation_fraction=validation_fraction)
    return check_splits(loaded, plugin.name)
