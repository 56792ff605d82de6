"""The tutorial's latency table synchronises CUDA even when it measures another device.

Symptom: RuntimeError or AssertionError (no NVIDIA driver, torch not compiled with CUDA) from
    `FLOPsTable(pred_type="latency", device="cpu")` on a machine without CUDA.
Upstream: ofa/tutorial/flops_table.py, lines 48, 51, 53 and 57.
Affects: ofa 0.1.0.post202307202001, every torch.
Drop when: `measure_single_layer_latency` synchronises only if CUDA is available.
"""

from types import ModuleType

from ._support import Defect, edit

_defect = Defect("ofa.tutorial.flops_table", "        torch.cuda.synchronize()\n")


def needed() -> bool:
    return _defect.present()


def apply() -> None:
    _defect.repair(_synchronise_if_available)


def _synchronise_if_available(module: ModuleType) -> None:
    edit(
        module.FLOPsTable.measure_single_layer_latency,
        ("torch.cuda.synchronize()", "torch.cuda.is_available() and torch.cuda.synchronize()"),
    )
