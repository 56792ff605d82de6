"""Opens a finished or running training: its supernet with the weights of a step, its plan, its data."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ..data.base import DataSplits
from ..errors import RunError, UserError
from ..models.pretrained import InitialWeights
from ..models.supernet import Supernet
from ..recipes.schema import Recipe
from ..space import SearchSpace
from ..training.checkpoints import StepFiles
from ..training.plan import PlannedStep
from ..training.run_config import RunConfig
from ..utils.tensor_files import tensors_digest
from .records import TRAINED
from .run_folder import read_run_file
from .training_run import load_data


class _Stored(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _InitFrom(_Stored):
    digest: str
    unlocked: dict[str, list[int | float]] | None
    partial: bool = False


class _Run(_Stored):
    arm: str
    seed: int
    supernet: Any
    init_from: _InitFrom | None = None
    recipe: Recipe


class _Settings(_Stored):
    runs: dict[str, _Run]
    dataset: Any
    data: str


class _Details(_Stored):
    root: Path | None
    n_classes: int
    steps: list[dict[str, str]]


class _RunFile(_Stored):
    kind: str
    settings: _Settings
    details: _Details


class OpenRun:
    """One training in a run folder.

    Args:
        folder: The run folder.
        config: Supernet, recipe and seed of the training.
        dataset: The dataset plugin that it was trained on.
        root: The folder of the dataset during training.
        fingerprint: Fingerprint of the data.
        n_classes: Number of classes.
        steps: Folder name of each step, in the order of the plan.
        kind: The command that wrote the folder.
    """

    def __init__(
        self,
        folder: Path,
        config: RunConfig,
        dataset: Any,
        root: Path | None,
        fingerprint: str,
        n_classes: int,
        steps: dict[str, str],
        kind: str = "train",
    ):
        self.folder, self.config, self.dataset, self.root = folder, config, dataset, root
        self.fingerprint, self.n_classes, self.steps, self.kind = fingerprint, n_classes, steps, kind

    @property
    def finished_steps(self) -> list[str]:
        """Names of the steps that are trained, in the order of the plan."""
        return [name for name in self.steps if (self.step_folder(name) / TRAINED).exists()]

    @property
    def is_finished(self) -> bool:
        """Whether every step of the plan is trained."""
        return len(self.finished_steps) == len(self.steps)

    def step_folder(self, step: str) -> Path:
        """The folder of a step. Raises UserError, listing the steps, for an unknown name."""
        if step not in self.steps:
            raise UserError(f"{self.folder}: step must be one of {', '.join(self.steps)}, but got {step!r}")
        return self.folder / "steps" / self.steps[step]

    @cached_property
    def plan(self) -> list[PlannedStep]:
        """The steps of the training."""
        return self.config.plan(self._fresh().space)

    def data(self, root: Path | None = None) -> DataSplits:
        """The dataset with the splits of the training.

        Args:
            root: The current folder of the dataset; default: the folder during training.

        Raises:
            RunError: The images differ from those of the training.
        """
        data = load_data(self.dataset, root or self.root, self.config.recipe.validation_fraction)
        if data.fingerprint != self.fingerprint:
            raise RunError(
                f"{self.folder} was trained on other data than dataset {data.name!r} in {root or self.root} holds: "
                f"the fingerprint must be {self.fingerprint}, but got {data.fingerprint}; give the right --root"
            )
        return data

    def supernet(self, step: str | None = None) -> Supernet:
        """The supernet with the best weights of a step and its whole space available.

        Args:
            step: A finished step; default: the last finished one.

        Raises:
            RunError: The step is not finished, or its weights are damaged.
        """
        net = self._fresh()
        net.load_state_dict(self._best(step)[0])
        return net

    def unlocked_space(self, step: str | None = None) -> SearchSpace:
        """The part of the space that is trained after a step (default: the last finished one)."""
        return self._fresh().space.restrict(self._best(step)[1]["unlocked"])

    def weights_digest(self, step: str | None = None) -> str:
        """A digest of the best weights of a step (default: the last finished one)."""
        return tensors_digest(self._best(step)[0], {})

    def _best(self, step: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
        finished = self.finished_steps
        if self.kind == "finetune":
            raise RunError(
                f"{self.folder} contains one fine-tuned network, not a supernet; give the folder of its training"
            )
        if not finished:
            raise RunError(f"{self.folder} has no finished step yet; continue it with --resume")
        name = finished[-1] if step is None else step
        folder = self.step_folder(name)
        if name not in finished:
            raise RunError(f"{self.folder}: step {name!r} is not finished; finished steps: {', '.join(finished)}")
        return StepFiles(folder, say=lambda text: None).load_best()

    def _fresh(self) -> Supernet:
        return self.config.build(self.n_classes)


def open_run(path: str | Path, arm: str | None = None, seed: int | None = None) -> OpenRun:
    """Open a run folder of `ofav2 train`, or one training of a study.

    Args:
        path: The run folder.
        arm: For a study: the arm. May be omitted if there is only one.
        seed: For a study: the seed. May be omitted if the arm has only one.

    Raises:
        RunError: It is not a run folder, or its run.json is damaged.
        UserError: It is the folder of a search, or `arm` and `seed` do not select exactly one training; the message
            lists the trainings.
    """
    folder = Path(path)
    content = read_run_file(folder)
    if content.get("kind") == "search":
        raise UserError(f"{folder} contains a search, not a training; give the folder of its training")
    try:
        stored = _RunFile.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise RunError(
            f"{folder / 'run.json'} is damaged or was written by another version: {field}: {first['msg']}"
        ) from error
    runs = list(zip(stored.settings.runs.values(), stored.details.steps, strict=True))
    found = [(run, steps) for run, steps in runs if arm in (None, run.arm) and (seed is None or seed == run.seed)]
    if len(found) != 1:
        known = ", ".join(stored.settings.runs)
        given = f"arm={arm!r}, seed={seed!r}"
        raise UserError(f"{folder}: arm and seed must name one of its trainings, {known}, but got {given}")
    run, steps = found[0]
    initial = None
    if run.init_from:
        stored_values = run.init_from.unlocked
        unlocked = None if stored_values is None else {name: tuple(v) for name, v in stored_values.items()}
        initial = InitialWeights(
            Path("?"), {}, unlocked, run.init_from.digest, run.init_from.partial
        )  # placeholder: trained steps have the weights
    config = RunConfig(run.arm, run.supernet, run.recipe, run.seed, initial)
    return OpenRun(
        folder,
        config,
        stored.settings.dataset,
        stored.details.root,
        stored.settings.data,
        stored.details.n_classes,
        steps,
        stored.kind,
    )
