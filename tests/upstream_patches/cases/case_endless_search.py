from pathlib import Path
from typing import Any

import ofa.nas.search_algorithm
import ofa.tutorial
from case_tools import time_limit
from ofa.nas.accuracy_predictor import AccuracyPredictor, MobileNetArchEncoder

SYMPTOM = r"TimeoutError"


class Depth:
    """An efficiency which is between 10 and 20."""

    @staticmethod
    def get_efficiency(arch: dict[str, Any]) -> int:
        return sum(arch["d"])

    @staticmethod
    def predict_efficiency(arch: dict[str, Any]) -> int:
        return 190 + sum(arch["d"])


def run(_: Path) -> None:
    size = {"population_size": 8, "max_time_budget": 2}
    predictor = AccuracyPredictor(MobileNetArchEncoder(), hidden_size=8, device="cpu")
    nas = ofa.nas.search_algorithm.EvolutionFinder(Depth(), predictor, **size)
    tutorial_predictor = ofa.tutorial.AccuracyPredictor(pretrained=False, device="cpu")
    tutorial = ofa.tutorial.EvolutionFinder("flops", 205, Depth(), tutorial_predictor, **size)

    assert nas.run_evolution_search(12)[1][2] <= 12
    assert tutorial.run_evolution_search()[1][2] <= 205
    tutorial.set_efficiency_constraint(199)
    nas.MAX_TRIES = tutorial.MAX_TRIES = 500
    for search in (lambda: nas.run_evolution_search(9), tutorial.run_evolution_search):
        try:
            with time_limit(2):
                search()
        except ValueError as error:
            assert "no architecture within the constraint after 500 tries" in str(error)
        else:
            raise AssertionError("an architecture beyond the constraint")
    assert type(nas.efficiency_predictor) is Depth
