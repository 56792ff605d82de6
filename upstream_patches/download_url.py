"""A failed download hides its reason, and an interrupted one is taken for a finished file.

Symptom: FileNotFoundError or NotADirectoryError for `<file>/download.lock`, a file which is never there,
    instead of the network's error. What an interrupted download has left behind is returned by the next
    call as the cached file.
Upstream: ofa/utils/common_tools.py, lines 119 and 121-125 (`download_url`).
Affects: ofa 0.1.0.post202307202001, every torch.
Drop when: `download_url` lets the error through and renames the file when it is complete.
"""

from types import ModuleType

from ._support import Defect, edit

_LOCK = '        os.remove(os.path.join(model_dir, "download.lock"))\n'
_defect = Defect("ofa.utils.common_tools", _LOCK)


def needed() -> bool:
    return _defect.present()


def apply() -> None:
    _defect.repair(_let_error_through)


def _let_error_through(module: ModuleType) -> None:
    edit(
        module.download_url,
        (
            "urlretrieve(url, cached_file)",
            'os.replace(urlretrieve(url, cached_file + ".part")[0], cached_file)',
        ),
        (_LOCK, ""),
        ("return None", "raise"),  # every caller opens the result at once: None would hide the error again
    )
