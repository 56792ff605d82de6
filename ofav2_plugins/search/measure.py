"""Measuring subnets for a search: all exits of one trunk in one pass over the images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..data.base import Split
from ..data.batches import eval_batches
from ..evaluation.accuracy import Evaluator
from ..models.batch_norm import fold_bn, recalibrate_bn
from ..models.layers.accelerate import accelerate
from ..models.supernet import Supernet
from ..space import Arch
from .targets import HEIGHT

SPLITS = {"validation": "val_top1", "test": "top1"}
"""Split -> name of the accuracy on it."""


class TrunkMeter:
    """Measures architectures with recalibrated batch norms.

    Args:
        net: The trained supernet.
        evaluator: Data and evaluation settings of the training.
        threshold: With several exits, an image leaves at the first exit whose largest probability reaches this value.
    """

    def __init__(self, net: Supernet, evaluator: Evaluator, threshold: float):
        self.net, self.evaluator, self.threshold = net, evaluator, threshold

    @torch.no_grad()
    def measure(
        self, arch: Arch, resolution: int, heights: Sequence[int], splits: Sequence[str] = ("validation",)
    ) -> list[dict[str, Any]]:
        """The accuracies of an architecture that ends at each of several exits.

        Args:
            arch: The architecture; its height, if it has one, is that of the last exit.
            resolution: Of the images in pixels.
            heights: The exits, ascending; empty for a supernet without early exits.
            splits: "validation", "test" or both.

        Returns:
            For each height, a dictionary with "height" and "val_top1" (and "top1" for the test images). It also has
            "exit_shares" and "expected_val_top1" (and "expected_top1") for early exits at these heights up to this one,
            and, for the validation images, "half_top1": the accuracy on each half of them.
        """
        evaluator = self.evaluator
        self.net.set_active_subnet(**arch)
        static = accelerate(self.net.get_multi_exit_subnet())
        recalibrate_bn(static, evaluator.calibration(resolution))
        fold_bn(static.eval())
        numbers = [*map(int, static.exits)]
        used = [numbers.index(height) for height in heights or numbers[-1:]]
        found: list[dict[str, Any]] = [{HEIGHT: height} for height in heights] or [{}]
        for name in splits:
            logits, labels = self._logits(static, getattr(evaluator.data, name), resolution, used)
            self._score(found, logits, labels, name)
        return found

    def _logits(self, static: Any, split: Split, resolution: int, used: Sequence[int]) -> tuple[list[Tensor], Tensor]:
        """The logits [N, n_classes] of each used exit, and the labels [N]."""
        outputs, labels = [], []
        for images, target in eval_batches(
            self.evaluator.data, split, resolution, self.evaluator.recipe.evaluation.batch_size
        ):
            logits = static.forward_exits(images.to(self.evaluator.device))
            outputs.append([logits[i].cpu() for i in used])
            labels.append(target)
        return [torch.cat(parts) for parts in zip(*outputs, strict=True)], torch.cat(labels)

    def _score(self, found: list[dict[str, Any]], logits: list[Tensor], labels: Tensor, split: str) -> None:
        name = SPLITS[split]
        right = torch.stack([exit_logits.argmax(1) == labels for exit_logits in logits])  # [exits, N]
        for entry, hits in zip(found, right, strict=True):
            entry[name] = _percent(hits)
            if split == "validation":
                entry["half_top1"] = [_percent(hits[0::2]), _percent(hits[1::2])]
        if len(found) == 1 and HEIGHT not in found[0]:
            return
        sure = torch.stack([exit_logits.softmax(1).amax(1) >= self.threshold for exit_logits in logits])
        for last, entry in enumerate(found):
            stops = sure[: last + 1].clone()
            stops[last] = True
            leaves = stops.int().argmax(0)  # [N]: the first confident exit
            entry[f"expected_{name}"] = _percent(right.gather(0, leaves[None])[0])
            if split == "validation":
                entry["exit_shares"] = [(leaves == i).double().mean().item() for i in range(last + 1)]


def _percent(hits: Tensor) -> float:
    return 100 * hits.double().mean().item()
