"""Logger `energy`: energy and CO2 of each epoch by codecarbon, estimated from the processor's load."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from ..errors import UserError
from .base import Logger


class Energy(Logger):
    """Estimated energy of each epoch (codecarbon, offline), and its CO2 if a country is given.

    Args:
        country: ISO code of three letters, for the grid's CO2 per kWh; None estimates the energy only.
    """

    def __init__(self, country: str | None = None):
        self.country = country
        self._tracker: Any = None

    def check(self) -> None:
        self._new_tracker()

    def epoch_started(self, epoch: int) -> None:
        if self._tracker is None:
            self._tracker = self._new_tracker()
        self._tracker.start_task()

    def measurements(self) -> Mapping[str, float]:
        """`energy_kwh`, and `co2_kg` if a country is given."""
        data = self._tracker.stop_task()
        co2 = {} if self.country is None else {"co2_kg": data.emissions}
        return {"energy_kwh": data.energy_consumed, **co2}

    def _new_tracker(self) -> Any:
        try:
            from codecarbon import OfflineEmissionsTracker
        except ImportError as error:
            raise UserError("logger 'energy' needs codecarbon: pip install 'ofav2-plugins[energy]'") from error
        logging.getLogger("codecarbon").disabled = True  # it logs before it has read its own log level
        country = "USA" if self.country is None else self.country.upper()
        tracker = OfflineEmissionsTracker(country_iso_code=country, save_to_file=False, allow_multiple_runs=True)
        tracker.start_task()
        if tracker.stop_task().country_name is None:
            raise UserError(
                f"country must be an ISO code of three letters such as DEU or USA, but got {self.country!r}"
            )
        return tracker
