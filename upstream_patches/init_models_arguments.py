"""A run manager cannot be constructed with its default arguments.

Symptom: AttributeError "'str' object has no attribute 'modules'" from `RunManager(path, net, config)`.
Upstream: ofa/imagenet_classification/run_manager/run_manager.py, line 57: `init_models` receives the name of the
    initialisation instead of the network.
Affects: ofa 0.1.0.post202307202001, every torch.
Drop when: the call is `init_models(self.net, ...)`.
"""

from types import ModuleType

from ._support import Defect, edit

_OLD = "init_models(run_config.model_init)"
_defect = Defect("ofa.imagenet_classification.run_manager.run_manager", _OLD)


def needed() -> bool:
    return _defect.present()


def apply() -> None:
    _defect.repair(_pass_network)


def _pass_network(module: ModuleType) -> None:
    edit(module.RunManager.__init__, (_OLD, "init_models(self.net, run_config.model_init)"))
