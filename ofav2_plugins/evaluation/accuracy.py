"""Accuracy of subnets: extraction, batch-norm recalibration on training images, evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from .. import registry
from ..data.base import DataSplits, Split
from ..data.batches import calibration_batches, eval_batches
from ..exits.weights import exit_weights
from ..models.batch_norm import fold_bn, recalibrate_bn
from ..models.layers.accelerate import accelerate
from ..models.subnet import Subnet
from ..models.supernet import Supernet
from ..recipes.schema import Recipe
from ..space import Arch
from ..teachers.ensemble import ExitEnsemble, weighted_sum
from ..utils.distributed import map_over_ranks
from .batch_cache import BatchCache
from .candidates import HEIGHT, Candidate
from .cost import count_macs
from .latency import latency_ms

Outputs = Callable[[Tensor], list[Tensor]]
"""Images [N, 3, R, R] to one or more logits [N, n_classes]."""

Net = TypeVar("Net", bound=nn.Module)


@dataclass(frozen=True)
class Measured:
    """A measured candidate: accuracies in percent, MACs of one image, parameters of the static network.

    `latency_ms` is the time of a batch in milliseconds on this machine; None unless the recipe times subnets.
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
        """As JSON-able values; fields that were not measured are omitted."""
        return {key: value for key, value in asdict(self).items() if value is not None}


class Evaluator:
    """Measures subnets of supernets on one dataset with one recipe's settings.

    Args:
        data: The splits; batch norms use only the training part.
        recipe: Resolutions, batch sizes, number of calibration images, weights of the exits.
        fabric: Device and processes; the candidates are divided among ranks.
        seed: Chooses the calibration images.
    """

    def __init__(self, data: DataSplits, recipe: Recipe, fabric: Fabric, seed: int):
        self.data = data
        self.recipe = recipe
        self.fabric = fabric
        self.device = fabric.device
        self.seed = seed
        self.resolutions = tuple(recipe.resolutions or data.resolutions)
        self.augmentations = [registry.load(registry.AUGMENTATIONS, plugin) for plugin in recipe.augmentations]
        self._cache = BatchCache()

    def calibration(self, resolution: int) -> list[Tensor]:
        """Augmented training images [n, 3, r, r] for the batch norms, the same for every subnet."""
        settings = self.recipe.evaluation

        def make() -> list[Tensor]:
            batches = calibration_batches(
                self.data,
                resolution,
                settings.bn_images,
                settings.batch_size,
                self.seed,
                self.augmentations,
            )
            return [batch.to(self.device) for batch in batches]

        return list(self._cache.get("calibration", resolution, settings.bn_images, make))

    def extract(self, net: Supernet, candidate: Candidate) -> nn.Module:
        """The candidate as a static network with recalibrated batch norms, in evaluation mode."""
        net.set_active_subnet(**candidate.arch)
        static: nn.Module
        if candidate.ensemble:
            multi = net.get_multi_exit_subnet()
            static = ExitEnsemble(multi, exit_weights(self.recipe.exit_weights.output, len(multi.exits)))
        else:
            static = net.get_active_subnet()
        return self._calibrated(static, candidate.resolution)

    def _calibrated(self, static: Net, resolution: int) -> Net:
        recalibrate_bn(accelerate(static), self.calibration(resolution))
        return static.eval()

    def top1(self, static: nn.Module, split: Split, resolution: int) -> float:
        """Accuracy in percent on a split."""
        return self._top1s(lambda images: [static(images)], split, resolution)[0]

    def _both_top1s(self, outputs: Outputs, resolution: int) -> list[tuple[float, float]]:
        """Validation and test accuracy in percent, for each of the logits of a batch of images."""
        splits = (self.data.validation, self.data.test)
        return list(zip(*(self._top1s(outputs, split, resolution) for split in splits), strict=True))

    def _top1s(self, outputs: Outputs, split: Split, resolution: int) -> list[float]:
        make = partial(eval_batches, self.data, split, resolution, self.recipe.evaluation.batch_size)
        batches = self._cache.get(id(split), resolution, len(split), make)
        return accuracies(outputs, batches, self.data.n_classes, self.device)

    def validate(
        self, net: Supernet, candidates: Sequence[Candidate], check: Callable[[], None] = lambda: None
    ) -> float:
        """Mean validation top-1 in percent over candidates, the same on every rank; `check` is called after each."""

        def score(candidate: Candidate) -> float:
            static = self.extract(net, candidate)
            fold_bn(static)
            return self.top1(static, self.data.validation, candidate.resolution)

        scores = []
        for scored in map_over_ranks(self.fabric, score, candidates):
            scores.append(scored)
            check()
        return sum(scores) / len(scores)

    def measure(self, net: Supernet, candidate: Candidate) -> Measured:
        """Accuracy on validation and test images, MACs and parameters."""
        return self.measure_trunk(net, [candidate])[0]

    def measure_trunk(self, net: Supernet, group: Sequence[Candidate]) -> list[Measured]:
        """`measure` for candidates that differ only in height, by one pass through a network with all exits."""
        costs = [self._costs(net, candidate) for candidate in group]
        largest = max(group, key=lambda candidate: candidate.arch.get(HEIGHT, 0))
        if len(group) == 1:
            static = self.extract(net, largest)
            fold_bn(static)
            found = [self._both_top1s(lambda images: [static(images)], largest.resolution)[0]]
        else:
            multi = self._multi_exit(net, largest.arch, largest.resolution)
            by_height = dict(
                zip(map(int, multi.exits), self._both_top1s(multi.forward_exits, largest.resolution), strict=True)
            )
            found = [by_height[candidate.arch[HEIGHT]] for candidate in group]
        return [
            Measured(c.arch, c.resolution, c.ensemble, val_top1=val_top1, top1=top1, **cost)
            for c, cost, (val_top1, top1) in zip(group, costs, found, strict=True)
        ]

    def _costs(self, net: Supernet, candidate: Candidate) -> dict[str, Any]:
        """MACs and parameters of a candidate; its latency if the recipe times it."""
        net.set_active_subnet(**candidate.arch)
        weigh = net.get_multi_exit_subnet if candidate.ensemble else net.get_active_subnet
        static = accelerate(weigh(preserve_weight=False)).eval()
        costs: dict[str, Any] = {
            "macs": count_macs(static, candidate.resolution),
            "params": sum(parameter.numel() for parameter in static.parameters()),
        }
        if batch_size := self.recipe.evaluation.latency_batch:
            fold_bn(static)
            costs["latency_ms"] = latency_ms(static, batch_size, candidate.resolution)
        return costs

    def _multi_exit(self, net: Supernet, arch: Arch, resolution: int) -> Subnet:
        """An architecture with all its exits, calibrated and folded."""
        net.set_active_subnet(**arch)
        multi = self._calibrated(net.get_multi_exit_subnet(), resolution)
        fold_bn(multi)
        return multi

    def measure_exits(self, net: Supernet) -> dict[str, Any]:
        """Accuracy of each exit of the maximal network, and of their ensemble, at the largest resolution."""
        resolution = max(self.resolutions)
        multi = self._multi_exit(net, net.space.max_arch(), resolution)
        weights = exit_weights(self.recipe.exit_weights.output, len(multi.exits))

        def outputs(images: Tensor) -> list[Tensor]:
            logits = multi.forward_exits(images)
            return [*logits, weighted_sum(logits, weights)]

        *exits, (ensemble_val_top1, ensemble_top1) = self._both_top1s(outputs, resolution)
        return {
            "exits": [
                {"height": height, "val_top1": val_top1, "top1": top1}
                for height, (val_top1, top1) in zip(map(int, multi.exits), exits, strict=True)
            ],
            "ensemble_val_top1": ensemble_val_top1,
            "ensemble_top1": ensemble_top1,
        }

    @property
    def images_per_candidate(self) -> int:
        """Images passed through a network to measure the candidates of one trunk."""
        return self.recipe.evaluation.bn_images + len(self.data.validation) + len(self.data.test)


def accuracy(net: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], n_classes: int, device: torch.device) -> float:
    """Top-1 in percent of a network in evaluation mode over batches of (images, labels)."""
    return accuracies(lambda images: [net(images)], batches, n_classes, device)[0]


@torch.inference_mode()
def accuracies(
    outputs: Outputs,
    batches: Iterable[tuple[Tensor, Tensor]],
    n_classes: int,
    device: torch.device,
) -> list[float]:
    """Top-1 in percent, for each of the logits of a batch of images."""
    metrics: list[MulticlassAccuracy] = []
    for images, labels in batches:
        found, labels = outputs(images.to(device)), labels.to(device)
        # Each rank measures its own networks, so nothing is synchronised.
        metrics = metrics or [
            MulticlassAccuracy(n_classes, average="micro", sync_on_compute=False).to(device) for _ in found
        ]
        for metric, logits in zip(metrics, found, strict=True):
            metric.update(logits, labels)
    return [100 * metric.compute().item() for metric in metrics]
