"""Measuring subnets: extract, re-calibrate the batch norms on training images, count what is right."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

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
from ..models.supernet import Supernet
from ..recipes.schema import Recipe
from ..space import Arch
from ..teachers.ensemble import ExitEnsemble, weighted_sum
from ..utils.distributed import map_over_ranks
from .candidates import Candidate
from .cost import count_macs
from .latency import latency_ms


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
        self.augmentations = [registry.load(registry.AUGMENTATIONS, plugin) for plugin in recipe.augmentations]
        self._calibration: dict[int, list[Tensor]] = {}

    def calibration(self, resolution: int) -> list[Tensor]:
        """Augmented training images [n, 3, r, r] for the batch norms, the same for every subnet."""
        if resolution not in self._calibration:
            settings = self.recipe.evaluation
            batches = calibration_batches(
                self.data,
                resolution,
                settings.bn_images,
                settings.batch_size,
                self.seed,
                self.augmentations,
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
        for scored in map_over_ranks(self.fabric, score, candidates):
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
