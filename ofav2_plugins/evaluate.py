"""Measuring subnets: extract, re-calibrate the batch norms on training images, count what is right."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchmetrics.classification import MulticlassAccuracy

from .bn import fold_bn, recalibrate_bn
from .data.base import DataSplits, Split
from .data.batches import calibration_batches, eval_batches
from .distributed import over_ranks
from .exit_weights import exit_weights
from .layers.accelerate import accelerate
from .layers.depthwise import reference_layers
from .recipes import Recipe
from .seeding import python_rng
from .space import Arch, SearchSpace
from .supernet import Supernet
from .teachers.ensemble import ExitEnsemble, weighted_sum

LATENCY_RUNS = 7
"""Timed runs of each network."""


@dataclass(frozen=True)
class Candidate:
    """A network to measure: an architecture at a resolution, with its last exit or the ensemble of all exits."""

    arch: Arch
    resolution: int
    ensemble: bool = False


@dataclass(frozen=True)
class Measured:
    """A measured candidate; accuracies in percent, MACs of one image, parameters of the static network.

    Its latency is that of a batch in milliseconds on this machine, where the recipe asks for it.
    """

    arch: Arch
    resolution: int
    ensemble: bool
    val_top1: float
    top1: float
    macs: int
    params: int
    latency_ms: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values; without what was not measured."""
        return {key: value for key, value in asdict(self).items() if value is not None}


class Evaluator:
    """Measures subnets of supernets on one dataset with one recipe's settings.

    Args:
        data: The splits; batch norms only ever see its training part.
        recipe: Resolutions, batch sizes, number of calibration images, weights of the exits.
        fabric: Device and processes; ranks share the candidates out.
        seed: Chooses the calibration images.
    """

    def __init__(self, data: DataSplits, recipe: Recipe, fabric: Fabric, seed: int):
        self.data = data
        self.recipe = recipe
        self.fabric = fabric
        self.device = fabric.device
        self.seed = seed
        self.resolutions = tuple(recipe.resolutions or data.resolutions)
        self._calibration: dict[int, list[Tensor]] = {}

    def calibration(self, resolution: int) -> list[Tensor]:
        """Augmented training images [n, 3, r, r] for the batch norms, the same for every subnet."""
        if resolution not in self._calibration:
            settings, augmentation = self.recipe.evaluation, self.recipe.augmentation
            batches = calibration_batches(
                self.data,
                resolution,
                settings.bn_images,
                settings.batch_size,
                self.seed,
                augmentation.min_scale,
                augmentation.flip,
            )
            self._calibration[resolution] = [batch.to(self.device) for batch in batches]
        return self._calibration[resolution]

    def extract(self, net: Supernet, candidate: Candidate) -> nn.Module:
        """The candidate as a static network with re-calibrated batch norms, in evaluation mode."""
        net.set_active_subnet(**candidate.arch)
        static: nn.Module
        if candidate.ensemble:
            multi = net.get_multi_exit_subnet()
            static = ExitEnsemble(multi, exit_weights(self.recipe.exit_weights.output, len(multi.exits)))
        else:
            static = net.get_active_subnet()
        static = accelerate(static)
        recalibrate_bn(static, self.calibration(candidate.resolution))
        return static.eval()

    def top1(self, static: nn.Module, split: Split, resolution: int) -> float:
        """Accuracy in percent on a split."""
        batches = eval_batches(self.data, split, resolution, self.recipe.evaluation.batch_size)
        return accuracy(static, batches, self.data.n_classes, self.device)

    def validate(
        self, net: Supernet, candidates: Sequence[Candidate], check: Callable[[], None] = lambda: None
    ) -> float:
        """Mean validation top-1 in percent over candidates, the same on every rank; `check` is called after each."""

        def score(candidate: Candidate) -> float:
            static = self.extract(net, candidate)
            fold_bn(static)
            return self.top1(static, self.data.validation, candidate.resolution)

        scores = []
        for scored in over_ranks(self.fabric, score, candidates):
            scores.append(scored)
            check()
        return sum(scores) / len(scores)

    def measure(self, net: Supernet, candidate: Candidate) -> Measured:
        """Accuracy on validation and test images, MACs and parameters."""
        static = self.extract(net, candidate)
        costs: dict[str, Any] = {
            "macs": count_macs(static, candidate.resolution),
            "params": sum(parameter.numel() for parameter in static.parameters()),
        }
        fold_bn(static)
        if self.recipe.evaluation.latency_batch:
            costs["latency_ms"] = latency_ms(static, self.recipe.evaluation.latency_batch, candidate.resolution)
        return Measured(
            arch=candidate.arch,
            resolution=candidate.resolution,
            ensemble=candidate.ensemble,
            val_top1=self.top1(static, self.data.validation, candidate.resolution),
            top1=self.top1(static, self.data.test, candidate.resolution),
            **costs,
        )

    def measure_exits(self, net: Supernet) -> dict[str, Any]:
        """Accuracy of each exit of the maximal network, and of their ensemble, at the largest resolution."""
        net.set_max_net()
        resolution = max(self.resolutions)
        multi = accelerate(net.get_multi_exit_subnet())
        numbers = [*map(int, multi.exits)]
        recalibrate_bn(multi, self.calibration(resolution))
        fold_bn(multi.eval())
        weights = exit_weights(self.recipe.exit_weights.output, len(numbers))

        def tops(split: Split) -> list[float]:
            """Each exit's accuracy, and last the ensemble's."""
            batches = eval_batches(self.data, split, resolution, self.recipe.evaluation.batch_size)

            def outputs(images: Tensor) -> list[Tensor]:
                logits = multi.forward_exits(images)
                return [*logits, weighted_sum(logits, weights)]

            return accuracies(outputs, batches, self.data.n_classes, self.device)

        *validation, ensemble_validation = tops(self.data.validation)
        *test, ensemble_test = tops(self.data.test)
        return {
            "exits": [
                {"height": height, "val_top1": val_top1, "top1": top1}
                for height, val_top1, top1 in zip(numbers, validation, test, strict=True)
            ],
            "ensemble_val_top1": ensemble_validation,
            "ensemble_top1": ensemble_test,
        }

    @property
    def images_per_candidate(self) -> int:
        """Images that go through a network in `measure`."""
        return self.recipe.evaluation.bn_images + len(self.data.validation) + len(self.data.test)


def accuracy(net: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], n_classes: int, device: torch.device) -> float:
    """Top-1 in percent of a network in evaluation mode over batches of (images, labels)."""
    return accuracies(lambda images: [net(images)], batches, n_classes, device)[0]


@torch.no_grad()
def accuracies(
    outputs: Callable[[Tensor], list[Tensor]],
    batches: Iterable[tuple[Tensor, Tensor]],
    n_classes: int,
    device: torch.device,
) -> list[float]:
    """Top-1 in percent of each of the logits that a batch of images gives."""
    metrics: list[MulticlassAccuracy] = []
    for images, labels in batches:
        found, labels = outputs(images.to(device)), labels.to(device)
        # Each rank measures networks of its own: nothing to synchronise.
        metrics = metrics or [
            MulticlassAccuracy(n_classes, average="micro", sync_on_compute=False).to(device) for _ in found
        ]
        for metric, logits in zip(metrics, found, strict=True):
            metric.update(logits, labels)
    return [100 * metric.compute().item() for metric in metrics]


@torch.no_grad()
def count_macs(net: nn.Module, resolution: int) -> int:
    """Multiply-accumulates of one image [1, 3, resolution, resolution]; torch's counter counts each as two."""
    image = torch.zeros(1, 3, resolution, resolution, device=next(net.parameters()).device)
    # The fast layers leave out what meets padding; what counts is the network as it is exported.
    with reference_layers(), FlopCounterMode(display=False) as counter:
        net(image)
    return counter.get_total_flops() // 2


@torch.no_grad()
def latency_ms(net: nn.Module, batch_size: int, resolution: int) -> float:
    """Median time in milliseconds of a batch [batch_size, 3, resolution, resolution], after two that do not count."""
    images = torch.zeros(batch_size, 3, resolution, resolution, device=next(net.parameters()).device)
    times = []
    for _ in range(2 + LATENCY_RUNS):
        started = time.perf_counter()
        net(images).sum().item()  # waits for a device that works on its own
        times.append(time.perf_counter() - started)
    return 1e3 * statistics.median(times[2:])


def candidates(
    space: SearchSpace,
    resolutions: Sequence[int],
    *,
    full: Sequence[str] = (),
    ensemble: bool = False,
    limit: int | None = None,
    seed_parts: Sequence[object] = (),
) -> list[Candidate]:
    """The uniform grid of the open space at its extreme resolutions, or a seeded draw of at most `limit` of it.

    Args:
        space: What is open.
        resolutions: All elastic resolutions; the ensemble of the full phase is measured at each of them.
        full: Dimensions of which all open values appear, not only the extremes.
        ensemble: Measure the ensemble of all exits instead of the last one.
        limit: At most so many; the first of the grid's maximal networks is always among them.
        seed_parts: What the draw depends on.
    """
    sizes = sorted(set(resolutions)) if ensemble else sorted({min(resolutions), max(resolutions)})
    grid = [Candidate(arch, r, ensemble) for r, arch in itertools.product(sizes, space.grid(full))]
    if limit is None or len(grid) <= limit:
        return grid
    largest = grid[-1]  # the grid ascends in every dimension
    drawn = python_rng(*seed_parts).sample(range(len(grid) - 1), limit - 1)
    return [grid[i] for i in sorted(drawn)] + [largest]
