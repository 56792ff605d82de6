import io
import sys
from pathlib import Path

from ofa.tutorial import EvolutionFinder

SYMPTOM = r"KeyError: 'wrong'"


def run(_: Path) -> None:
    sys.stdin = io.StringIO("flops\n")
    finder = EvolutionFinder("wrong", 200, None, None)
    assert (finder.constraint_type, finder.efficiency_constraint) == ("flops", 200)
    sys.stdin = io.StringIO("700\n300\n")
    assert EvolutionFinder("flops", 1000, None, None).efficiency_constraint == 300
