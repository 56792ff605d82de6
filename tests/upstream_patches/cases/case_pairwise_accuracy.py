from pathlib import Path

from case_tools import time_limit
from ofa.utils import pairwise_accuracy

SYMPTOM = r"TimeoutError"


def run(_: Path) -> None:
    assert pairwise_accuracy([1, 2, 3], [4, 5, 6], n_samples=100) == 1
    try:
        with time_limit(0.5):
            pairwise_accuracy([1], [1])
    except AssertionError as error:
        assert "two values" in str(error)
    else:
        raise AssertionError("one value was compared with itself")
