"""What a training costs and shows: peak memory, energy (codecarbon, an estimate), metrics as lines and TensorBoard."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError
from .files import write_atomically


class EnergyMeter:
    """Energy and CO2 by codecarbon, offline; estimated from the processor's load, not measured at a plug.

    Args:
        country: ISO code of three letters, for the grid's CO2 per kWh; None measures nothing.

    Raises:
        UserError: codecarbon is not installed, or it does not know the country.
    """

    def __init__(self, country: str | None):
        self._tracker: Any = None
        if country is None:
            return
        try:
            from codecarbon import OfflineEmissionsTracker
        except ImportError as error:
            raise UserError("--energy needs codecarbon: pip install 'ofav2-plugins[energy]'") from error
        logging.getLogger("codecarbon").disabled = True  # it speaks before it has read its own log level
        self._tracker = OfflineEmissionsTracker(
            country_iso_code=country.upper(), save_to_file=False, allow_multiple_runs=True
        )
        self._tracker.start_task()
        if self._tracker.stop_task().country_name is None:
            raise UserError(f"--energy must be an ISO code of three letters such as DEU or USA, but got {country!r}")

    def start(self) -> None:
        """Start a stretch of work."""
        if self._tracker is not None:
            self._tracker.start_task()

    def stop(self) -> dict[str, float]:
        """`energy_kwh` and `co2_kg` of the stretch; nothing where nothing is measured."""
        if self._tracker is None:
            return {}
        data = self._tracker.stop_task()
        return {"energy_kwh": data.energy_consumed, "co2_kg": data.emissions}


def write_metrics(path: Path, history: Sequence[dict[str, Any]]) -> None:
    """Write the metrics of each epoch as one line of JSON."""
    write_atomically(path, "".join(json.dumps(entry) + "\n" for entry in history).encode())


def read_metrics(path: Path) -> list[Any] | None:
    """What `write_metrics` wrote; None if the file is missing or not JSON."""
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError, RecursionError):
        return None


class TensorBoard:
    """Scalars of each epoch, for `tensorboard --logdir RUN/steps`; a null object where it is not wanted.

    Raises:
        UserError: It is wanted and not installed.
    """

    def __init__(self, folder: Path | None, first_epoch: int):
        self._writer: Any = None
        if folder is None:
            return
        require_tensorboard()
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=first_epoch)

    def write(self, entry: dict[str, Any]) -> None:
        """Every number of an epoch's metrics."""
        if self._writer is not None:
            for name, value in entry.items():
                if isinstance(value, (int, float)) and name != "epoch":
                    self._writer.add_scalar(name, value, entry["epoch"])

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()


def require_tensorboard() -> None:
    """Raises UserError where tensorboard is not installed."""
    try:
        import tensorboard  # noqa: F401
    except ImportError as error:
        raise UserError("--tensorboard needs tensorboard: pip install 'ofav2-plugins[tensorboard]'") from error
