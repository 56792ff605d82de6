"""The FLOPs counter adds its counts to the network's state dictionary.

Symptom: after `profile(net, shape)`, `net.state_dict()` has a `total_ops` and a `total_params` per layer, and is
    incompatible with checkpoints of the same network.
Upstream: ofa/utils/flops_counter.py, lines 54-55 (`profile`).
Affects: ofa 0.1.0.post202307202001, every torch.
Drop when: the two buffers are not persistent, or are removed after counting.
"""

from types import ModuleType

from ._support import Defect, edit

_defect = Defect("ofa.utils.flops_counter", 'm_.register_buffer("total_ops", torch.zeros(1))')


def needed() -> bool:
    return _defect.present()


def apply() -> None:
    _defect.repair(_not_persistent)


def _not_persistent(module: ModuleType) -> None:
    # they remain attributes of the layers, for code that reads the counts per layer
    edit(
        module.profile,
        *(
            (f'"{name}", torch.zeros(1))', f'"{name}", torch.zeros(1), persistent=False)')
            for name in ("total_ops", "total_params")
        ),
    )
