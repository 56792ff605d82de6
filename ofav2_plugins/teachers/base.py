"""Contract of `ofav2.teachers` (OFA section 3.3; OFAv2 section 3.4, progressive teacher and ENS-KD)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..models.batch_norm import recalibrate_bn
from ..models.layers.accelerate import accelerate
from ..plugin import Plugin
from .ensemble import ExitEnsemble

if TYPE_CHECKING:
    from ..models.subnet import Subnet
    from ..models.supernet import Supernet


class Teacher(Plugin, ABC):
    """A teacher policy: chooses the finished step whose maximal network, an ensemble of its exits, is the teacher.

    A teacher that follows the student overrides `after_step`, and saves the state that it changes in `state_dict` and
    `load_state_dict`.
    """

    follows_student: bool = False
    """Whether the teacher's weights change during a step; its batch norms then use batch statistics."""

    def __init__(self) -> None:
        self._ensemble: nn.Module | None = None

    @abstractmethod
    def source(self, finished: Sequence[str]) -> str | None:
        """The name of the teacher step among the finished steps (in order); None if the next step has no teacher."""

    def bind(
        self,
        supernet: Supernet,
        calibration: Iterable[Tensor],
        output_weights: Sequence[float],
        batch_statistics: bool = True,
    ) -> None:
        """Extract the maximal network with all its exits as the teacher model, and recalibrate its batch norms.

        Args:
            supernet: The supernet with the weights of the teacher step; its active subnet changes.
            calibration: Training images [N, 3, R, R] for the batch norms.
            output_weights: Weight of each exit's logits in the ensemble.
            batch_statistics: Normalise with the statistics of each batch (as upstream does, because resolutions vary)
                instead of the recalibrated ones.
        """
        supernet.set_max_net()
        net = accelerate(supernet.get_multi_exit_subnet())
        recalibrate_bn(net, calibration)
        self._ensemble = frozen_ensemble(net, output_weights, batch_statistics)

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor | None:
        """The ensemble's logits [N, n_classes] for a batch [N, 3, R, R]; None before `bind`."""
        return None if self._ensemble is None else self._ensemble(images)

    def after_step(self, net: Supernet) -> None:
        """Called after every optimizer step with the updated student, which it must not change."""

    def state_dict(self) -> dict[str, Tensor]:
        """The state that `after_step` changes, as tensors; saved in the checkpoints of the step."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore the result of `state_dict`; called after `bind`."""


def frozen_ensemble(net: Subnet | Supernet, weights: Sequence[float], batch_statistics: bool) -> ExitEnsemble:
    """The ensemble of a network's exits, without gradients, dropout and stochastic depth.

    Args:
        net: The network.
        weights: Weight of each exit's logits.
        batch_statistics: Whether batch norms use batch statistics.
    """
    ensemble = ExitEnsemble(net.requires_grad_(False), weights).eval()
    for module in net.modules():  # only batch norms: dropout and stochastic depth stay off
        if isinstance(module, nn.BatchNorm2d):
            module.train(batch_statistics)
    return ensemble
