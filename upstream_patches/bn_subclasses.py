"""Subclasses of BatchNorm are skipped silently, because upstream compares exact types.

Symptom: in a network with SyncBatchNorm or a subclass of BatchNorm2d, extracted subnets and reorganised
    weights keep the running statistics of other channels, `init_models` and `set_bn_param` do not change the
    layers, and `set_running_statistics` and `get_bn_param` ignore SyncBatchNorm. No error, wrong output.
Upstream: ofa/utils/my_modules.py, lines 27, 44 and 144; ofa/imagenet_classification/elastic_nn/utils.py,
    lines 22 and 81; ofa/imagenet_classification/elastic_nn/modules/dynamic_layers.py, lines 48 and 62.
Affects: ofa 0.1.0.post202307202001, every torch.
Drop when: these places test with `isinstance` against torch's common base of the batch norms.
"""

from types import ModuleType

from ._support import Defect, edit

_BASE = "nn.modules.batchnorm._BatchNorm"
_modules = Defect("ofa.utils.my_modules", "type(m) in [nn.BatchNorm2d, nn.BatchNorm1d, nn.GroupNorm]")
_statistics = Defect("ofa.imagenet_classification.elastic_nn.utils", "isinstance(m, nn.BatchNorm2d)")
_layers = Defect(
    "ofa.imagenet_classification.elastic_nn.modules.dynamic_layers",
    "type(src_bn) in [nn.BatchNorm1d, nn.BatchNorm2d]",
)


def needed() -> bool:
    return _modules.present() or _statistics.present() or _layers.present()


def apply() -> None:
    _modules.repair(_repair_modules)
    _statistics.repair(_repair_statistics)
    _layers.repair(_repair_layers)


def _repair_modules(module: ModuleType) -> None:
    edit(
        module.set_bn_param,
        ("type(m) in [nn.BatchNorm1d, nn.BatchNorm2d]", f"isinstance(m, {_BASE})"),
    )
    edit(
        module.get_bn_param,
        ("isinstance(m, nn.BatchNorm2d) or isinstance(m, nn.BatchNorm1d)", f"isinstance(m, {_BASE})"),
    )
    edit(
        module.init_models,
        (
            "type(m) in [nn.BatchNorm2d, nn.BatchNorm1d, nn.GroupNorm]",
            f"isinstance(m, ({_BASE}, nn.GroupNorm))",
        ),
    )


def _repair_statistics(module: ModuleType) -> None:
    two_dimensional = "isinstance(m, (nn.BatchNorm2d, nn.SyncBatchNorm))"
    edit(module.set_running_statistics, ("isinstance(m, nn.BatchNorm2d)", two_dimensional))


def _repair_layers(module: ModuleType) -> None:
    for function, name in ((module.adjust_bn_according_to_idx, "bn"), (module.copy_bn, "src_bn")):
        edit(
            function,
            (f"type({name}) in [nn.BatchNorm1d, nn.BatchNorm2d]", f"isinstance({name}, {_BASE})"),
        )
