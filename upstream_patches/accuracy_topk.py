"""Top-5 accuracy crashes on networks with fewer than five classes.

Symptom: RuntimeError "selected index k out of range" in validation and training, because the run managers
    always request top-1 and top-5.
Upstream: ofa/utils/common_tools.py, line 170 (`accuracy`).
Affects: ofa 0.1.0.post202307202001, every torch.
Drop when: `accuracy` limits the k of `topk` to the number of classes.
"""

from types import ModuleType

from ._support import Defect, edit

_defect = Defect("ofa.utils.common_tools", "    maxk = max(topk)\n")


def needed() -> bool:
    return _defect.present()


def apply() -> None:
    _defect.repair(_limit_k)


def _limit_k(module: ModuleType) -> None:
    # the slices `correct[:k]` below this line accept a k above the number of classes; the accuracy is then 100 %
    edit(module.accuracy, ("max(topk)", "min(max(topk), output.size(1))"))
