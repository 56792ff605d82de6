"""The pretrained OFAResNets cannot be downloaded into a folder that does not exist yet.

Symptom: FileNotFoundError for a temporary file in `.torch/ofa_nets/` from `ofa_net("ofa_resnet50")`, unless
    another network was downloaded there before.
Upstream: ofa/model_zoo.py, line 104: unlike `download_url`, gdown does not create the folder.
Affects: ofa 0.1.0.post202307202001, every gdown.
Drop when: `ofa_net` creates the folder before it calls gdown.
"""

import os
from types import ModuleType

from ._support import Defect, edit

_OLD = "gdown.download(url_base, pt_path, quiet=False)"
_defect = Defect("ofa.model_zoo", _OLD)


def needed() -> bool:
    return _defect.present()


def apply() -> None:
    _defect.repair(_make_folder)


def _make_folder(module: ModuleType) -> None:
    def download_from_drive(url: str, path: str) -> None:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        module.gdown.download(url, path, quiet=False)

    module.__dict__["download_from_drive"] = download_from_drive
    edit(module.ofa_net, (_OLD, "download_from_drive(url_base, pt_path)"))
