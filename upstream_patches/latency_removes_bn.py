"""Measuring the latency of a network removes the batch norms from that network permanently.

Symptom: after `measure_net_latency(net)`, or in a RunManager constructed with `measure_latency="cpu"`, every
    batch norm is the identity: the network trains and predicts without them. It also stays in evaluation mode.
Upstream: ofa/utils/pytorch_utils.py, line 112 (`measure_net_latency`).
Affects: ofa 0.1.0.post202307202001, every torch.
Drop when: the batch norms are removed from a copy.
"""

import copy
from collections.abc import Callable
from typing import Any

from ._support import Defect, replace

_defect = Defect("ofa.utils.pytorch_utils", "    # remove bn from graph\n    rm_bn_from_net(net)\n")


def needed() -> bool:
    return _defect.present()


def apply() -> None:
    _defect.repair(lambda module: replace(module, "measure_net_latency", _of_copy))


def _of_copy(original: Callable[..., Any]) -> Callable[..., Any]:
    def measure_net_latency(net: Any, *args: Any, **kwargs: Any) -> Any:
        return original(copy.deepcopy(net), *args, **kwargs)

    return measure_net_latency
