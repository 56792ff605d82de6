"""The mean of a long list overflows the stack.

Symptom: RecursionError from `list_sum` and `list_mean` beyond about a thousand items, for example in
    progressive shrinking's `validate` with many subnets in `additional_setting`.
Upstream: ofa/utils/common_tools.py, line 67 (`list_sum`).
Affects: ofa 0.1.0.post202307202001, every Python.
Drop when: `list_sum` does not call itself.
"""

from types import ModuleType

from ._support import Defect, edit

_OLD = "x[0] if len(x) == 1 else x[0] + list_sum(x[1:])"
_defect = Defect("ofa.utils.common_tools", _OLD)


def needed() -> bool:
    return _defect.present()


def apply() -> None:
    _defect.repair(_iterate)


def _iterate(module: ModuleType) -> None:
    edit(module.list_sum, (_OLD, "sum(x[1:], x[0])"))  # starts with the first item, because items need not be numbers
