"""Layers without an activation fail in `forward` or in `module_str`.

Symptom: TypeError "'NoneType' object is not callable" in the forward pass of MBConvLayer,
    ResNetBottleneckBlock and their dynamic versions if `act_func` is None or "none", both of which
    `build_activation` accepts; AttributeError "no attribute 'module_str'" on ConvLayer(act_func=None).
Upstream: ofa/utils/layers.py, lines 224, 512, 537, 569, 692, 714, 771 and
    ofa/imagenet_classification/elastic_nn/modules/dynamic_layers.py, lines 177, 192, 446, 560, 575, 638.
Affects: ofa 0.1.0.post202307202001, every torch.
Drop when: these layers omit an activation that is None, and `module_str` accepts None.
"""

from types import ModuleType

from ._support import Defect, edit

_INPLACE = "build_activation(self.act_func, inplace=True)"
_PLAIN = "build_activation(self.act_func)"
_static = Defect("ofa.utils.layers", f'("act", {_INPLACE})')
_dynamic = Defect("ofa.imagenet_classification.elastic_nn.modules.dynamic_layers", f"self.act = {_PLAIN}\n")


def needed() -> bool:
    return _static.present() or _dynamic.present()


def apply() -> None:
    _static.repair(_repair_static)
    _dynamic.repair(_repair_dynamic)


def _or_identity(build: str) -> tuple[str, str]:
    return build, f"({build} or nn.Identity())"


def _repair_static(module: ModuleType) -> None:
    for layer in (module.MBConvLayer, module.ResNetBottleneckBlock):
        edit(layer.__init__, _or_identity(_INPLACE))
    for layer in (module.ConvLayer, module.MBConvLayer):
        edit(layer.module_str.fget, ("self.act_func.upper()", "str(self.act_func).upper()"))


def _repair_dynamic(module: ModuleType) -> None:
    edit(module.DynamicMBConvLayer.__init__, _or_identity(_PLAIN))
    edit(module.DynamicConvLayer.__init__, _or_identity(_PLAIN))
    edit(module.DynamicResNetBottleneckBlock.__init__, _or_identity(_INPLACE))
