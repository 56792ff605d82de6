"""A random crop of several sizes cannot be printed.

Symptom: with a list of image sizes, KeyError <InterpolationMode.BILINEAR> from
    `repr(MyRandomResizedCrop(...))`, and therefore from RunManager, which writes the transforms to net_info.txt.
Upstream: ofa/utils/my_dataloader/my_random_resize_crop.py, line 86: torchvision converts PIL's constant to
    its own enumeration, which is missing from the table of names.
Affects: ofa 0.1.0.post202307202001 with torchvision >= 0.9.
Drop when: `MyRandomResizedCrop.__repr__` accepts InterpolationMode.
"""

from types import ModuleType

from ._support import Defect, edit

_OLD = "interpolate_str = _pil_interpolation_to_str[self.interpolation]"
_defect = Defect("ofa.utils.my_dataloader.my_random_resize_crop", _OLD)


def needed() -> bool:
    return _defect.present()


def apply() -> None:
    _defect.repair(_use_name)


def _use_name(module: ModuleType) -> None:
    edit(
        module.MyRandomResizedCrop.__repr__,
        (_OLD, 'interpolate_str = "PIL.Image." + self.interpolation.name'),
    )
