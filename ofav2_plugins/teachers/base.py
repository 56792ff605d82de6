"""Contract of `ofav2.teachers` (OFA section 3.3; OFAv2 section 3.4, progressive teacher and ENS-KD)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..models.batch_norm import recalibrate_bn
from ..models.layers.accelerate import accelerate
from ..plugin import Plugin
from .ensemble import ExitEnsemble

if TYPE_CHECKING:
    from ..models.supernet import Supernet


class Teacher(Plugin, ABC):
    """Which finished step's supernet teaches a phase, as the ensemble of its maximal network's exits."""

    def __init__(self) -> None:
        self._ensemble: nn.Module | None = None

    @abstractmethod
    def source(self, finished: Sequence[str]) -> str | None:
        """The name, among the finished steps in order, of the step whose supernet teaches the next one; or None."""

    def bind(
        self,
        supernet: Supernet,
        calibration: Iterable[Tensor],
        output_weights: Sequence[float],
        batch_statistics: bool = True,
    ) -> None:
        """Extract the maximal network with all its exits, re-calibrate its batch norms, and teach with it.

        Args:
            supernet: Weights of the step that `source` named; its active subnet changes.
            calibration: Training images [N, 3, R, R] for the batch norms.
            output_weights: Weight of each exit's logits in the ensemble.
            batch_statistics: Normalise by each batch (upstream's way, as resolutions vary) instead of by the
                re-calibrated statistics.
        """
        supernet.set_max_net()
        net = accelerate(supernet.get_multi_exit_subnet())
        recalibrate_bn(net, calibration)
        self._ensemble = ExitEnsemble(net.requires_grad_(False), output_weights).eval()
        for module in net.modules():  # not dropout, not stochastic depth: a teacher draws no random numbers
            if isinstance(module, nn.BatchNorm2d):
                module.train(batch_statistics)

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor | None:
        """The ensemble's logits [N, n_classes] for a batch [N, 3, R, R]; None before `bind`."""
        return None if self._ensemble is None else self._ensemble(images)
