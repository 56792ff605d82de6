"""Logger `tensorboard`: scalars for TensorBoard, by torch's SummaryWriter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import UserError
from .base import Logger, StepInfo


class TensorBoard(Logger):
    """TensorBoard scalars of each epoch in the step's folder: `tensorboard --logdir RUN/steps`."""

    def __init__(self) -> None:
        self._writer: Any = None

    def check(self) -> None:
        try:
            import tensorboard  # noqa: F401
        except ImportError as error:
            raise UserError(
                "logger 'tensorboard' needs tensorboard: pip install 'ofav2-plugins[tensorboard]'"
            ) from error

    def step_started(self, step: StepInfo) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(step.folder), purge_step=len(step.history))

    def epoch_finished(self, record: Mapping[str, Any]) -> None:
        """Log every number of the record."""
        for name, value in record.items():
            if isinstance(value, (int, float)) and name != "epoch":
                self._writer.add_scalar(name, value, record["epoch"])

    def step_finished(self) -> None:
        self._writer.close()
