"""Runs a case in a fresh interpreter, without a patch, with it, or with all of them.

The interpreter is a fork of Python's fork server: a process started from `sys.executable` in which torch and
upstream's other dependencies are imported, but neither `ofa` nor `upstream_patches`. It spares each of a
hundred runs the seconds of importing torch.
"""

import contextlib
import importlib
import multiprocessing
import os
import pkgutil
import sys
from multiprocessing.connection import Connection
from pathlib import Path

CASES = Path(__file__).parent / "cases"
MODES = ("unpatched", "patched first", "all patched late")

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["torch", "torchvision.datasets", "torchvision.transforms", "gdown", "yaml", "tqdm"])


def run(case: str, mode: str, folder: Path) -> str | None:
    """The error of the case as "Type: message", or None if it passes."""
    receiver, sender = _context.Pipe(duplex=False)
    process = _context.Process(target=_child, args=(case, mode, str(folder), sender))
    process.start()
    sender.close()
    try:
        return receiver.recv() if receiver.poll(100) else "no answer within 100 seconds"
    except EOFError:
        return "the process died"
    finally:
        if process.is_alive():
            process.join(5)
        process.kill()


def _child(case: str, mode: str, folder: str, sender: Connection) -> None:
    os.chdir(folder)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the symptoms are those of a machine without CUDA
    assert not any(name.partition(".")[0] in ("ofa", "upstream_patches") for name in sys.modules)
    sys.path.insert(0, str(CASES))
    error = None
    with (
        open("output.txt", "w") as output,
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(output),
    ):
        try:
            _patch(case, mode)
            importlib.import_module("torch").set_num_threads(1)  # many small steps: threads only wait
            importlib.import_module(f"case_{case}").run(Path(folder))
        except Exception as exception:
            error = f"{type(exception).__name__}: {exception}"
    sender.send(error)


def _patch(case: str, mode: str) -> None:
    import upstream_patches

    patch = importlib.import_module(f"upstream_patches.{case}")
    assert patch.needed(), "not needed before it is applied"
    if mode == "unpatched":
        return
    if mode == "patched first":
        patch.apply()
        patch.apply()
    else:
        _import_all_of_ofa()
        assert case in upstream_patches.apply_all()
        assert upstream_patches.apply_all() == []
    assert not patch.needed(), "needed after it is applied"


def _import_all_of_ofa() -> None:
    import ofa

    for module in pkgutil.walk_packages(ofa.__path__, "ofa."):
        if not module.name.endswith("my_data_loader"):  # the one which cannot be imported
            importlib.import_module(module.name)
