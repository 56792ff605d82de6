"""The pairwise accuracy of a single value never ends.

Symptom: `pairwise_accuracy([a], [b])` loops for ever in search of a second index.
Upstream: ofa/utils/common_tools.py, lines 155-159.
Affects: ofa 0.1.0.post202307202001, every numpy.
Drop when: `pairwise_accuracy` refuses fewer than two values.
"""

from types import ModuleType

from ._support import Defect, edit

_OLD = "assert n == len(lb)"
_defect = Defect("ofa.utils.common_tools", f"    {_OLD}\n")


def needed() -> bool:
    return _defect.present()


def apply() -> None:
    _defect.repair(_ask_for_two)


def _ask_for_two(module: ModuleType) -> None:
    edit(module.pairwise_accuracy, (_OLD, f'{_OLD} and n > 1, "a pair needs two values"'))
