"""The FLOPs reported for a dynamic network omit all of its dynamic layers.

Symptom: `count_net_flops`, `get_net_info` and the run manager's net_info.txt report a tenth of the true number
    for OFAMobileNetV3 and OFAProxylessNASNets, and 0 for OFAResNets.
Upstream: ofa/utils/pytorch_utils.py, line 101: the counter hooks nn.Conv2d modules, but dynamic layers call
    F.conv2d with a part of the weight.
Affects: ofa 0.1.0.post202307202001, every torch.
Drop when: the counter supports the dynamic layers.
"""

from collections.abc import Callable
from typing import Any

from ._support import Defect, replace

_defect = Defect("ofa.utils.pytorch_utils", "flop, _ = profile(copy.deepcopy(net), data_shape)")


def needed() -> bool:
    return _defect.present()


def apply() -> None:
    _defect.repair(lambda module: replace(module, "count_net_flops", _of_active_subnet))


def _of_active_subnet(original: Callable[..., float]) -> Callable[..., float]:
    def count_net_flops(net: Any, *args: Any, **kwargs: Any) -> float:
        import torch
        from ofa.utils.my_modules import MyNetwork

        net = net.module if isinstance(net, torch.nn.DataParallel) else net
        if isinstance(net, MyNetwork) and hasattr(net, "get_active_subnet"):
            with torch.random.fork_rng(devices=[]):  # counting must not change the random state
                net = net.get_active_subnet()
        return original(net, *args, **kwargs)

    return count_net_flops
