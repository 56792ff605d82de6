"""Fine-tuning of one architecture: first on the training part, to find the number of epochs, then on all of it.

Both stages run in the training engine, so they are resumable and survive a killed process. Sources: NATv2 (arXiv
2307.00960) for one exit, AEP (arXiv 2301.12168) for all exits.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric
from rich.console import Console

from .. import registry
from ..data.base import DataSplits, Split
from ..errors import RunError, UserError
from ..evaluation.accuracy import Evaluator
from ..evaluation.candidates import Candidate
from ..execution.provenance import code_versions, current_provenance
from ..execution.records import TRAINED, read_step_record
from ..execution.run_folder import locked, open_run_folder, read_run_file
from ..execution.threads import set_threads
from ..execution.trial import try_step
from ..exits.weights import exit_weights
from ..models.subnet import Subnet
from ..phases.base import StepSettings
from ..recipes.schema import ExitWeights, Recipe
from ..teachers.base import Teacher
from ..training.checkpoints import StepFiles
from ..training.context import LoggingOptions, RunContext
from ..training.plan import PlannedStep
from ..training.trainer import StepTrainer, batch_work
from ..utils.distributed import make_fabric
from ..utils.files import write_record
from ..utils.progress import Reporter
from ..utils.signals import stop_on_signals
from ..utils.tensor_files import tensors_digest
from .fixed_network import FineTune, FixedNetwork
from .source import SourceOptions, open_subnet

TUNE, FINAL = "tune", "final"
FINETUNED = "finetune.json"
LR, EPOCHS = 1e-4, 20


@dataclass(frozen=True)
class FineTuneOptions:
    """Options of a fine-tuning.

    Args:
        out: The folder to write.
        all_exits: Train all exits up to the architecture's, with equal weights (AEP), instead of the last one.
        from_scratch: Start from fresh weights, with the optimizer, rate and epochs of the recipe's full phase.
        distill: Also distill from the maximal network of the run; it teaches every exit that is trained.
        epochs: Epochs of the first stage; default: 20, or those of the full phase if from scratch.
        lr: Learning rate at the start of the cosine; default: 1e-4, or that of the full phase if from scratch.
        seed: Seed of batches and, from scratch, of the weights; default: the run's.
        resume: Continue the fine-tuning in `out`.
        accept_changes: Continue even if it was started by other code.
        device: "auto", "cpu", "cuda" or "mps".
        threads: CPU threads of torch.
        logging: Saving and metrics.

    Raises:
        UserError: `lr` is not a finite number above 0.
    """

    out: Path
    all_exits: bool = False
    from_scratch: bool = False
    distill: bool = False
    epochs: int | None = None
    lr: float | None = None
    seed: int | None = None
    resume: bool = False
    accept_changes: bool = False
    device: str = "auto"
    threads: int | None = None
    logging: LoggingOptions = field(default_factory=LoggingOptions)

    def __post_init__(self) -> None:
        if self.lr is not None and not 0 < self.lr < math.inf:
            raise UserError(f"--lr must be a finite number above 0, but got {self.lr:g}; omit it for the default")


class _FineTuner(StepTrainer):
    """Trains a fixed network, for a part of the schedule if `stop_after` is given."""

    def __init__(self, *, stop_after: int | None, **arguments: Any):
        self.keeps_last = stop_after is not None
        super().__init__(**arguments)
        self.n_epochs = stop_after or self.n_epochs

    def _is_best(self, val_top1: float) -> bool:
        return self.keeps_last or super()._is_best(val_top1)


class FineTuning:
    """The two stages of a fine-tuning.

    Args:
        source: The architecture and its run.
        options: Options of the fine-tuning.
        fabric: Device.
    """

    def __init__(self, source: SourceOptions, options: FineTuneOptions, fabric: Fabric):
        self.options, self.fabric = options, fabric
        self.subnet = open_subnet(source, multi_exit=options.all_exits)
        self.run, self.data, self.resolution = self.subnet.run, self.subnet.data, self.subnet.resolution
        self.seed = self.run.config.seed if options.seed is None else options.seed
        self.early = "height" in self.subnet.supernet.space
        self.recipe = self._recipe()
        self.settings = self._settings()

    def _recipe(self) -> Recipe:
        recipe = self.run.config.recipe
        equal = ExitWeights(loss="UNIF", output="UNIF")
        update: dict[str, Any] = {"resolutions": [self.resolution], "exit_weights": equal}
        if not self.options.distill:
            update["distillation"] = "none"
        if self.adamw:
            decay = getattr(registry.load(registry.OPTIMIZERS, recipe.optimizer), "weight_decay", 0.0)
            update["optimizer"] = {"name": "adamw", "weight_decay": decay}
        return recipe.model_copy(update=update)

    def _settings(self) -> StepSettings:
        options = self.options
        base = StepSettings(epochs=EPOCHS, lr=LR, dropout=0.1)
        if options.from_scratch:
            phases = [planned for planned in self.run.plan if planned.starts_from is None]
            base = replace(phases[0].settings if phases else self.run.plan[0].settings, subnets_per_step=1)
        return replace(base, epochs=options.epochs or base.epochs, lr=options.lr or base.lr)

    @property
    def adamw(self) -> bool:
        """Whether AdamW is used: for early exits, but not from scratch."""
        return self.early and not self.options.from_scratch

    def identity(self) -> dict[str, Any]:
        """The settings that must be equal when a fine-tuning is resumed."""
        return {
            "runs": {self.run.config.name: self.run.config.to_dict()},
            "dataset": self.run.dataset,
            "data": self.data.fingerprint,
            "finetune": {
                "arch": self.subnet.arch,
                "resolution": self.resolution,
                "step": self.subnet.step,
                "weights": tensors_digest(self.subnet.net.state_dict(), {}),
                "settings": vars(self.settings),
                "adamw": self.adamw,
                "seed": self.seed,
                **{name: getattr(self.options, name) for name in ("all_exits", "from_scratch", "distill")},
            },
        }

    def details(self) -> dict[str, Any]:
        """The values, besides the identity, that are needed to open the folder."""
        key = hashlib.blake2b(json.dumps(self.identity(), sort_keys=True).encode(), digest_size=6).hexdigest()
        root = self.subnet.root
        return {
            "root": str(root.resolve()) if root else None,
            "n_classes": self.data.n_classes,
            "steps": [{TUNE: f"{TUNE}-{key}", FINAL: f"{FINAL}-{key}"}],
            "network": self.subnet.net.config,
        }

    def work(self) -> float:
        """An upper bound of the work, in image passes."""
        planned = self._planned()
        images = len(self.data.train) * 2 + len(self.data.validation)
        return self.settings.epochs * batch_work(planned, images)

    def start(self) -> FixedNetwork:
        """The network at the start of training."""
        net = self.subnet.net
        if self.options.from_scratch:
            supernet = replace(self.run.config, seed=self.seed).build(self.data.n_classes)
            supernet.set_active_subnet(**self.subnet.arch)
            net = supernet.get_multi_exit_subnet() if self.options.all_exits else supernet.get_active_subnet()
        return FixedNetwork(_copy(net)).to(self.fabric.device)

    def try_plugins(self) -> None:
        """Train one batch of a copy, unless both stages are trained. Raises PluginError if a plugin fails."""
        folders = self.details()["steps"][0].values()
        if not all((self.options.out / "steps" / folder / TRAINED).exists() for folder in folders):
            net: Any = self.start()
            try_step(net, self.recipe, self._planned(), self._teacher(), self.data, self.seed, self.fabric)

    def train(self, context: RunContext) -> dict[str, Any]:
        """Run both stages and measure the test accuracy; finished stages are loaded."""
        folders = self.details()["steps"][0]
        tuned = self._stage(TUNE, folders[TUNE], self.data, None, context)
        epochs = tuned["best_epoch"] + 1
        everything = replace(self.data, train=self.data.train.joined(self.data.validation))
        self._stage(FINAL, folders[FINAL], everything, epochs, context)
        before = None if self.options.from_scratch else self._top1(self.start(), self.data.validation)
        record = {
            "written_by": folders[FINAL],
            "epochs": epochs,
            "val_top1": tuned["best_top1"],
            "val_top1_before": before,
            "top1": self._top1(self._load(folders[FINAL]), self.data.test),
            "all_exits": self.options.all_exits,
            "from_scratch": self.options.from_scratch,
            "distill": self.options.distill,
            "code": code_versions(),
        }
        write_record(self.options.out / FINETUNED, record)
        return record

    def _stage(
        self, name: str, folder: str, data: DataSplits, stop_after: int | None, context: RunContext
    ) -> dict[str, Any]:
        files = StepFiles(self.options.out / "steps" / folder, context.reporter.line)
        if (files.folder / TRAINED).exists():
            try:
                files.load_best()
                return read_step_record(files.folder / TRAINED, folder)
            except RunError as error:
                context.reporter.line(f"{error}; this stage is trained again")
        trainer = _FineTuner(
            stop_after=stop_after,
            fabric=self.fabric,
            net=self.start(),
            data=data,
            recipe=self.recipe,
            planned=self._planned(),
            teacher=self._teacher(),
            distillation=registry.load(registry.DISTILLATION, self.recipe.distillation),
            evaluator=Evaluator(data, self.recipe, self.fabric, self.seed),
            seed=self.seed,
            files=files,
            context=context,
        )
        progress = trainer.run()
        write_record(files.folder / TRAINED, {"written_by": folder, **vars(progress)})
        files.drop_states()
        return vars(progress)

    def _planned(self) -> PlannedStep:
        phase = FineTune(self.settings, self.options.all_exits, self.options.distill)
        return PlannedStep(
            phase=phase,
            step=1,
            n_steps=1,
            unlocks={},
            space=FixedNetwork.space,
            settings=self.settings,
            starts_from=None if self.options.from_scratch else self.subnet.step,
            teacher=self.subnet.step if self.options.distill else None,
        )

    def _teacher(self) -> Teacher:
        """The maximal network of the run with all of its exits, or `NoTeacher`."""
        if not self.options.distill:
            null: Teacher = registry.load(registry.TEACHERS, "none")
            return null
        recipe = self.run.config.recipe
        teacher: Teacher = registry.load(registry.TEACHERS, "fixed")
        supernet = self.run.supernet(self.subnet.step).to(self.fabric.device)
        n_exits = len(supernet.exits) + 1
        calibration = Evaluator(self.data, self.recipe, self.fabric, self.seed).calibration(self.resolution)
        weights = exit_weights(recipe.exit_weights.output, n_exits)
        teacher.bind(supernet, calibration, weights, recipe.teacher_batch_statistics)
        return teacher

    def _load(self, folder: str) -> FixedNetwork:
        net = self.start()
        net.load_state_dict(StepFiles(self.options.out / "steps" / folder, lambda text: None).load_best()[0])
        return net

    def _top1(self, net: FixedNetwork, split: Split) -> float:
        """Accuracy in percent of the last exit, or of the ensemble of all exits, with recalibrated batch norms."""
        evaluator = Evaluator(self.data, self.recipe, self.fabric, self.seed)
        static = evaluator.extract(net, Candidate({}, self.resolution, self.options.all_exits))  # type: ignore[arg-type]
        return evaluator.top1(static, split, self.resolution)


def _copy(net: Subnet) -> Subnet:
    from ..models.subnet import build_subnet

    copied = build_subnet(net.config)
    copied.load_state_dict(net.state_dict())
    return copied


def finetune(source: SourceOptions, options: FineTuneOptions, console: Console) -> dict[str, Any]:
    """Fine-tune an architecture; writes a folder that `ofav2 export` accepts in place of a run.

    Raises:
        UserError, RunError: Wrong options, an unfinished run, an unrelated folder.
        KeyboardInterrupt: Stopped; everything done so far is saved.
    """
    set_threads(options.threads, options.out, console)
    options.logging.check()
    fabric = make_fabric(options.device)
    tuning = FineTuning(source, options, fabric)
    tuning.try_plugins()
    open_run_folder(
        options.out,
        "finetune",
        tuning.identity(),
        current_provenance(fabric),
        options.resume,
        options.accept_changes,
        tuning.details(),
    )
    say: Callable[[str], None] = lambda text: console.print(text, style="yellow")  # noqa: E731
    with ExitStack() as stack:
        stack.enter_context(locked(options.out))
        stop = stack.enter_context(stop_on_signals(say))
        reporter = stack.enter_context(Reporter(console, tuning.work()))
        return tuning.train(RunContext(reporter, stop, options.logging).for_run(fabric.is_global_zero))


def finetuned_networks(folder: Path) -> tuple[Subnet, Subnet, dict[str, Any]]:
    """The final network of a finished fine-tuning, the network not trained on validation images, and its identity.

    Raises:
        RunError: It is not finished, or damaged.
    """
    from ..models.subnet import build_subnet

    if not (folder / FINETUNED).exists():
        raise RunError(f"the fine-tuning in {folder} is not finished; continue it with --resume")
    content = read_run_file(folder)
    networks, folders = [], content["details"]["steps"][0]
    for name in (FINAL, TUNE):
        net = build_subnet(content["details"]["network"])
        step = folder / "steps" / folders[name]
        state = StepFiles(step, lambda text: None).load_best()[0]
        net.load_state_dict({key.removeprefix("net."): value for key, value in state.items()})
        networks.append(net.eval())
    record = read_step_record(folder / FINETUNED, folders[FINAL])
    return networks[0], networks[1], {**content["settings"]["finetune"], **record}
