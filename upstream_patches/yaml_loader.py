"""Latency lookup tables cannot be read.

Symptom: TypeError "load() missing 1 required positional argument: 'Loader'" from every latency table of
    `ofa.nas.efficiency_predictor` and `ofa.tutorial`.
Upstream: ofa/nas/efficiency_predictor/latency_lookup_table.py, line 35;
    ofa/tutorial/latency_table.py, line 17.
Affects: ofa 0.1.0.post202307202001 with PyYAML >= 6.0.
Drop when: both use `yaml.safe_load` or pass a loader.
"""

from types import ModuleType

from ._support import Defect, edit

_OLD = "yaml.load(fp)"
_nas = Defect("ofa.nas.efficiency_predictor.latency_lookup_table", _OLD)
_tutorial = Defect("ofa.tutorial.latency_table", _OLD)


def needed() -> bool:
    return _nas.present() or _tutorial.present()


def apply() -> None:
    _nas.repair(lambda module: _load_safely(module, "LatencyTable"))
    _tutorial.repair(lambda module: _load_safely(module, "LatencyEstimator"))


def _load_safely(module: ModuleType, table: str) -> None:
    # the tables contain plain numbers from the internet, so the safe loader is sufficient and appropriate
    edit(getattr(module, table).__init__, (_OLD, "yaml.safe_load(fp)"))
