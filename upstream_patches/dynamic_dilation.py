"""The padding of dynamic convolutions ignores their dilation.

Symptom: a dynamic layer with `dilation=2` shrinks its input, while the layer extracted from it by
    `get_active_subnet` preserves the size: the subnet differs from the trained network.
Upstream: ofa/imagenet_classification/elastic_nn/modules/dynamic_op.py, lines 112, 153 and 217.
Affects: ofa 0.1.0.post202307202001, every torch.
Drop when: the padding in these `forward` methods is multiplied by the dilation, as in `ConvLayer`.
"""

from types import ModuleType

from ._support import Defect, edit

_defect = Defect(
    "ofa.imagenet_classification.elastic_nn.modules.dynamic_op",
    "padding = get_same_padding(self.kernel_size)\n",
)


def needed() -> bool:
    return _defect.present()


def apply() -> None:
    _defect.repair(_dilate_padding)


def _dilate_padding(module: ModuleType) -> None:
    for layer, size in (
        (module.DynamicSeparableConv2d, "kernel_size"),
        (module.DynamicConv2d, "self.kernel_size"),
        (module.DynamicGroupConv2d, "kernel_size"),
    ):
        padding = f"padding = get_same_padding({size})"
        edit(layer.forward, (padding, f"{padding} * self.dilation"))
