"""The pairwise accuracy of a single value is an endless loop.

Symptom: `pairwise_accuracy([a], [b])` loops forever, because it never draws a second index.
Upstream: ofa/utils/common_tools.py, lines 155-159.
Affects: ofa 0.1.0.post202307202001, every numpy.
Drop when: `pairwise_accuracy` rejects fewer than two values.
"""

from types import ModuleType

from ._support import Defect, edit

_OLD = "assert n == len(lb)"
_defect = Defect("ofa.utils.common_tools", f"    {_OLD}\n")


def needed() -> bool:
    return _defect.present()


def apply() -> None:
    _defect.repair(_require_two)


def _require_two(module: ModuleType) -> None:
    edit(module.pairwise_accuracy, (_OLD, f'{_OLD} and n > 1, "a pair needs two values"'))
