"""A failed download hides its cause, and an interrupted download is treated as a finished file.

Symptom: FileNotFoundError or NotADirectoryError for `<file>/download.lock`, a file that never exists,
    instead of the network's error. The next call returns the incomplete file of an interrupted download
    as the cached file.
Upstream: ofa/utils/common_tools.py, lines 119 and 121-125 (`download_url`).
Affects: ofa 0.1.0.post202307202001, every torch.
Drop when: `download_url` raises the network's error and renames the file only when it is complete.
"""

from types import ModuleType

from ._support import Defect, edit

_LOCK = '        os.remove(os.path.join(model_dir, "download.lock"))\n'
_defect = Defect("ofa.utils.common_tools", _LOCK)


def needed() -> bool:
    return _defect.present()


def apply() -> None:
    _defect.repair(_raise_error)


def _raise_error(module: ModuleType) -> None:
    edit(
        module.download_url,
        (
            "urlretrieve(url, cached_file)",
            'os.replace(urlretrieve(url, cached_file + ".part")[0], cached_file)',
        ),
        (_LOCK, ""),
        ("return None", "raise"),  # every caller opens the result immediately, so None would hide the error
    )
