"""Evolution search loops forever under a constraint that no architecture meets.

Symptom: `run_evolution_search` never returns and prints nothing, in both `ofa.nas` and `ofa.tutorial`.
Upstream: ofa/nas/search_algorithm/evolution.py, lines 34, 41 and 52; ofa/tutorial/evolution_finder.py,
    lines 134, 142 and 162 (`while True`).
Affects: ofa 0.1.0.post202307202001, every torch.
Drop when: drawing one sample has a limit.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from ._support import Defect, replace

# Draws for one sample. A strict but feasible constraint may need many, so the limit is far above the typical
# number; set `EvolutionFinder.MAX_TRIES` or `finder.MAX_TRIES` lower for a slow predictor.
MAX_TRIES = 100_000

_nas = Defect("ofa.nas.search_algorithm.evolution", "        while True:\n")
_tutorial = Defect("ofa.tutorial.evolution_finder", "        while True:\n")


def needed() -> bool:
    return _nas.present() or _tutorial.present()


def apply() -> None:
    _nas.repair(lambda module: _bound(module, "random_valid_sample"))
    _tutorial.repair(lambda module: _bound(module, "random_sample"))


def _bound(module: ModuleType, random_sample: str) -> None:
    finder = module.EvolutionFinder
    finder.MAX_TRIES = MAX_TRIES
    for name in (random_sample, "mutate_sample", "crossover_sample"):
        replace(finder, name, _with_limit)


class _Limited:
    """An efficiency predictor that raises ValueError after `limit` architectures."""

    def __init__(self, predictor: Any, limit: int) -> None:
        self.predictor = predictor
        self.limit = limit
        self.tries = 0
        self.least = float("inf")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.predictor, name)

    def get_efficiency(self, arch: Any) -> Any:
        return self.count(self.predictor.get_efficiency(arch))

    def predict_efficiency(self, arch: Any) -> Any:
        return self.count(self.predictor.predict_efficiency(arch))

    def count(self, efficiency: Any) -> Any:
        self.least = min(self.least, efficiency)
        self.tries += 1
        if self.tries > self.limit:
            raise ValueError(
                f"no architecture within the constraint after {self.limit} tries; "
                f"the most efficient one had {self.least:g}"
            )
        return efficiency


def _with_limit(original: Callable[..., Any]) -> Callable[..., Any]:
    def draw(self: Any, *args: Any, **kwargs: Any) -> Any:
        predictor = self.efficiency_predictor
        self.efficiency_predictor = _Limited(predictor, self.MAX_TRIES)
        try:
            return original(self, *args, **kwargs)
        finally:
            self.efficiency_predictor = predictor

    return draw
