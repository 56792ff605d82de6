"""Training with several image sizes is impossible: its data loader imports removed internals of torch.

Symptom: ModuleNotFoundError "No module named 'torch._six'" from ImagenetDataProvider with a list of image
    sizes. With that import repaired: AttributeError "no attribute 'Empty'" if a worker takes more than five
    seconds, the same size for all batches without workers, and only the default size 224 in spawned workers.
Upstream: ofa/utils/my_dataloader/my_data_loader.py, line 16 and the rest of the file: a copy of the
    loader of an early torch 1.x.
Affects: ofa 0.1.0.post202307202001 with torch >= 2.0.
Drop when: MyDataLoader imports, and delivers batches of different sizes for every number of workers.
"""

import sys
from types import ModuleType

from ._support import Defect, source

_NAME = "ofa.utils.my_dataloader.my_data_loader"
_defect = Defect(_NAME, "from torch._six import")


def needed() -> bool:
    return _defect.present() and not source("torch._six")


def apply() -> None:
    if needed():
        _defect.repair(_provide, on="ofa.utils.my_dataloader")


def _provide(package: ModuleType) -> None:
    """Replace upstream's module, which cannot be imported, with one that has a working MyDataLoader."""
    from ._sized_loader import MyDataLoader

    module = ModuleType(_NAME, "Replaces a module that can no longer be imported.")
    module.__dict__.update(MyDataLoader=MyDataLoader, __all__=["MyDataLoader"])
    sys.modules[_NAME] = package.__dict__["my_data_loader"] = module
