"""Teacher `ema`: the exponential moving average of the student's weights (Mean Teacher, arXiv 1703.01780)."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from .base import Teacher, frozen_ensemble

if TYPE_CHECKING:
    from ..models.supernet import Supernet


class EMA(Teacher):
    """The maximal network of the moving average of the supernet's weights; each step of the plan restarts the average.

    Its batch norms use batch statistics, because running statistics would belong to earlier weights.

    Args:
        decay: Weight of the previous average in each optimizer step.
    """

    follows_student = True

    def __init__(self, decay: float = 0.999):
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be at least 0 and below 1, but got {decay}")
        self.decay = decay
        self._average: Supernet | None = None

    def source(self, finished: Sequence[str]) -> str | None:
        return finished[-1] if finished else None

    def bind(
        self,
        supernet: Supernet,
        calibration: Iterable[Tensor],
        output_weights: Sequence[float],
        batch_statistics: bool = True,
    ) -> None:
        """Start the average from a copy of the supernet; the calibration images are not used."""
        self._average = copy.deepcopy(supernet)
        self._average.set_max_net()
        self._ensemble = frozen_ensemble(self._average, output_weights, batch_statistics=True)

    @torch.no_grad()
    def after_step(self, net: Supernet) -> None:
        assert self._average is not None, "call bind() first"
        average, student = list(self._average.parameters()), list(net.parameters())
        get_ema_multi_avg_fn(self.decay)(average, student, None)

    def state_dict(self) -> dict[str, Tensor]:
        """The average of every parameter."""
        return {} if self._average is None else dict(self._average.named_parameters())

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        for name, parameter in self.state_dict().items():
            parameter.copy_(state[name])
