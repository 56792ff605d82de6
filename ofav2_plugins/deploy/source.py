"""The source of a deployment: a subnet of a trained run with recalibrated batch norms, and its dataset."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.base import DataSplits, Split
from ..data.batches import eval_batches
from ..errors import RunError, UserError
from ..evaluation.accuracy import Evaluator
from ..execution.open_run import OpenRun, open_run
from ..execution.run_folder import read_run_file
from ..models.batch_norm import fold_bn, recalibrate_bn
from ..models.layers.accelerate import accelerate
from ..models.subnet import Subnet
from ..models.supernet import Supernet
from ..space import Arch
from ..utils.distributed import make_fabric
from .architecture_file import parse_unlocked, read_architecture

MAX_RESOLUTION = 4096
"""The largest input size in pixels; a typing error must not exhaust the memory."""


@dataclass(frozen=True)
class SourceOptions:
    """The subnet to deploy.

    Args:
        run: The folder of a run or of a fine-tuned network.
        arch: A JSON file; see `read_architecture`. A fine-tuned network needs none.
        entry: Number of an entry of a search's front, from 0.
        resolution: Width and height of the input in pixels; default: the file's, else the run's largest.
        arm: For a study: the arm.
        seed: For a study: the seed.
        step: The step of the plan with the weights; default: the last one, which must be finished.
        root: The dataset's current folder; default: the folder at training.
    """

    run: Path
    arch: Path | None = None
    entry: int | None = None
    resolution: int | None = None
    arm: str | None = None
    seed: int | None = None
    step: str | None = None
    root: Path | None = None


@dataclass
class Source:
    """A static network with its data.

    Args:
        run: The run that it was trained in.
        data: The dataset.
        root: Folder of the dataset.
        arch: The architecture.
        resolution: Width and height of the input in pixels.
        net: The network, with all exits up to the architecture's, if `multi_exit`.
        selection_net: The network whose validation logits decide thresholds, temperatures and exits. It differs
            from `net` if `net` was trained on the validation images too.
        training: The entries of the card about the training.
    """

    run: OpenRun
    data: DataSplits
    root: Path | None
    arch: Arch
    resolution: int
    net: Subnet
    selection_net: Subnet
    training: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def evaluator(self) -> Evaluator:
        """Calibration images of the run."""
        return make_evaluator(self.run, self.data)

    def test_logits(self) -> list[np.ndarray]:
        """The logits [N, n_classes] of each exit on the test images."""
        return exit_logits(self.net, self.data, self.data.test, self.resolution)

    def validation_logits(self) -> list[np.ndarray]:
        """The logits [N, n_classes] of each exit on the validation images, by weights that were not trained on them."""
        return exit_logits(self.selection_net, self.data, self.data.validation, self.resolution)


@dataclass(frozen=True)
class OpenSubnet:
    """A subnet of a run as it is in the supernet, without batch-norm recalibration.

    Args:
        run: The run.
        data: Its dataset.
        root: Folder of the dataset.
        step: The step with the weights.
        arch: The architecture.
        resolution: Width and height of the input in pixels.
        supernet: The supernet.
        net: The static network.
    """

    run: OpenRun
    data: DataSplits
    root: Path | None
    step: str
    arch: Arch
    resolution: int
    supernet: Supernet
    net: Subnet


def open_subnet(options: SourceOptions, multi_exit: bool) -> OpenSubnet:
    """The subnet that the options name.

    Args:
        options: The options of the subnet.
        multi_exit: Whether to include all exits up to the architecture's.

    Raises:
        RunError: The run is missing, damaged or not finished, or its data has changed.
        UserError: The architecture is outside the trained space of the run or has no early exits, or the resolution is
            too large.
    """
    run = open_run(options.run, options.arm, options.seed)
    if options.step is None and not run.is_finished:
        missing = [name for name in run.steps if name not in run.finished_steps]
        raise RunError(
            f"{options.run} is not finished ({missing[0]} is missing); continue it with --resume, or choose a finished "
            f"step with --step: {', '.join(run.finished_steps) or 'none yet'}"
        )
    if options.arch is None:
        raise UserError(f"--arch must name an architecture of {options.run}, a JSON file")
    given, resolution = read_architecture(options.arch, options.entry)
    arch = parse_unlocked(run.unlocked_space(options.step), given, options.arch)
    supernet = run.supernet(options.step)
    if multi_exit and "height" not in supernet.space:
        raise UserError(f"{options.run} has a supernet without early exits: only its last exit can be exported")
    data = run.data(options.root)
    resolution = options.resolution or resolution or max(run.config.recipe.resolutions or data.resolutions)
    if resolution > MAX_RESOLUTION:
        raise UserError(f"the resolution must be at most {MAX_RESOLUTION} pixels, but got {resolution}")
    supernet.set_active_subnet(**arch)
    net = supernet.get_multi_exit_subnet() if multi_exit else supernet.get_active_subnet()
    step = options.step or run.finished_steps[-1]
    return OpenSubnet(run, data, options.root or run.root, step, arch, resolution, supernet, net.eval())


def open_source(options: SourceOptions, multi_exit: bool) -> Source:
    """The network selected by the options, from a run or a fine-tuning, with recalibrated batch norms.

    Args:
        options: The options of the subnet.
        multi_exit: Whether to include all exits up to the architecture's.

    Raises:
        RunError: The run is missing, damaged or not finished, or its data has changed.
        UserError: The architecture is outside the trained space of the run, or has no early exits.
    """
    if read_run_file(options.run)["kind"] == "finetune":
        source = _open_finetuned(options, multi_exit)
    else:
        subnet = open_subnet(options, multi_exit)
        training = {"step": subnet.step, "epochs": _epochs(subnet.run, subnet.step)}
        source = Source(
            subnet.run, subnet.data, subnet.root, subnet.arch, subnet.resolution, subnet.net, subnet.net, training
        )
    for net in {id(net): net for net in (source.net, source.selection_net)}.values():
        recalibrate_bn(net, source.evaluator.calibration(source.resolution))
    return source


def _open_finetuned(options: SourceOptions, multi_exit: bool) -> Source:
    from .finetune import finetuned_networks

    run = open_run(options.run)
    net, selection_net, record = finetuned_networks(options.run)
    if multi_exit and not record["all_exits"]:
        raise UserError(f"{options.run} was fine-tuned with its last exit alone; fine-tune it with --all-exits")
    if options.arch is not None:
        given = parse_unlocked(run.config.build(run.n_classes).space, read_architecture(options.arch)[0], options.arch)
        if given != record["arch"]:
            raise UserError(f"{options.run} was fine-tuned for an architecture other than {options.arch}; omit --arch")
    data = run.data(options.root)
    keys = ("all_exits", "from_scratch", "distill", "adamw", "settings", "epochs", "val_top1", "top1", "step")
    training = {"finetuned": {key: record[key] for key in keys}}
    root = options.root or run.root
    return Source(run, data, root, record["arch"], record["resolution"], net, selection_net, training)


def _epochs(run: OpenRun, last: str) -> int:
    """Epochs of all steps up to `last`."""
    names = list(run.steps)
    steps = run.plan[: names.index(last) + 1]
    return sum(planned.settings.epochs + planned.settings.warmup_epochs for planned in steps)


def make_evaluator(run: OpenRun, data: DataSplits) -> Evaluator:
    """The evaluator with which the run measured its subnets, on the CPU."""
    return Evaluator(data, run.config.recipe, make_fabric("cpu"), run.config.seed)


@torch.no_grad()
def exit_logits(
    net: Subnet, data: DataSplits, split: Split, resolution: int, batch_size: int = 200
) -> list[np.ndarray]:
    """The logits [N, n_classes] of each exit of a network on all images of a split."""
    fast = accelerate(copy.deepcopy(net).eval())
    fold_bn(fast)
    batches = eval_batches(data, split, resolution, batch_size)
    parts = [[logits.numpy() for logits in fast.forward_exits(images)] for images, _ in batches]
    return [np.concatenate(logits) for logits in zip(*parts, strict=True)]
