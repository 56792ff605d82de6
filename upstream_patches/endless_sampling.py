"""Building an accuracy dataset never ends if the space has fewer architectures than requested.

Symptom: `AccuracyDataset.build_acc_dataset(run_manager, net, n_arch=1000)` loops forever on a network with
    fewer than 1000 architectures, the default number.
Upstream: ofa/nas/accuracy_predictor/acc_dataset.py, lines 64-67.
Affects: ofa 0.1.0.post202307202001, every torch.
Drop when: the loop over `sample_active_subnet` has a limit.
"""

from collections.abc import Collection
from types import ModuleType
from typing import Any

from ._support import Defect, edit

MAX_TRIES = 10_000  # draws without a new architecture after which the space counts as exhausted

_OLD = "net_setting = ofa_network.sample_active_subnet()"
_defect = Defect("ofa.nas.accuracy_predictor.acc_dataset", _OLD)


def needed() -> bool:
    return _defect.present()


def apply() -> None:
    _defect.repair(_bound)


def _bound(module: ModuleType) -> None:
    def sample_new_subnet(network: Any, known: Collection[str]) -> Any:
        for _ in range(MAX_TRIES):
            setting = network.sample_active_subnet()
            if module.net_setting2id(setting) not in known:
                return setting
        raise ValueError(f"no more than {len(known)} different architectures found: lower n_arch")

    module.__dict__["sample_new_subnet"] = sample_new_subnet
    edit(
        module.AccuracyDataset.build_acc_dataset,
        (_OLD, "net_setting = sample_new_subnet(ofa_network, net_id_list)"),
    )
