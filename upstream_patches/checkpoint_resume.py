"""Training cannot be resumed: the run manager's own checkpoints do not load, and the error is hidden.

Symptom: `RunManager.load_model` prints "fail to load checkpoint", returns {} and training starts again at
    epoch 0, because `best_acc` is saved as a numpy scalar, which `torch.load` rejects since `weights_only`
    is its default. If a file does not exist, the default checkpoint is loaded instead.
Upstream: ofa/imagenet_classification/run_manager/run_manager.py, lines 167-175 and 414;
    ofa/imagenet_classification/elastic_nn/training/progressive_shrinking.py, line 282 (`load_models`).
Affects: ofa 0.1.0.post202307202001 with torch >= 2.6; the hidden errors with every torch.
Drop when: `best_acc` is saved as a float and `load_model` raises loading errors.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

from ._support import Defect, replace

_manager = Defect(
    "ofa.imagenet_classification.run_manager.run_manager",
    'print("fail to load checkpoint from %s" % self.save_path)',
)
_shrinking = Defect(
    "ofa.imagenet_classification.elastic_nn.training.progressive_shrinking",
    'torch.load(model_path, map_location="cpu")["state_dict"]',
)


def needed() -> bool:
    return _manager.present() or _shrinking.present()


def apply() -> None:
    _manager.repair(_repair_manager)
    _shrinking.repair(lambda module: replace(module, "load_models", _loading))


def _repair_manager(module: ModuleType) -> None:
    replace(module.RunManager, "save_model", _saving)
    replace(module.RunManager, "load_model", lambda original: _loading(_raising(original)))


def _numpy_scalars() -> AbstractContextManager[Any]:
    """Let `torch.load` accept the numpy scalar in checkpoints that were saved without this patch."""
    import numpy
    import torch

    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 6):
        return nullcontext()  # weights_only is not the default in these versions
    dtype = numpy.dtype("float64")
    scalar = numpy.float64(0).__reduce__()[0]
    # numpy 1 and numpy 2 pickle the same function under different module paths
    names = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    return torch.serialization.safe_globals([*names, numpy.dtype, type(dtype)])  # type: ignore[list-item]


def _saving(original: Callable[..., None]) -> Callable[..., None]:
    def save_model(self: Any, checkpoint: dict[str, Any] | None = None, *args: Any, **kwargs: Any) -> None:
        if checkpoint and "best_acc" in checkpoint:
            checkpoint = {**checkpoint, "best_acc": float(checkpoint["best_acc"])}
        original(self, checkpoint, *args, **kwargs)

    return save_model


def _loading(original: Callable[..., Any]) -> Callable[..., Any]:
    def load(*args: Any, **kwargs: Any) -> Any:
        with _numpy_scalars():
            return original(*args, **kwargs)

    return load


def _raising(original: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    def load_model(self: Any, model_fname: str | None = None) -> dict[str, Any]:
        import torch

        if model_fname is not None and not os.path.exists(model_fname):
            raise FileNotFoundError(model_fname)
        checkpoint = original(self, model_fname)
        if not checkpoint:  # there is no checkpoint, or upstream has hidden an error
            tried = model_fname or Path(self.save_path, "latest.txt").read_text(encoding="utf-8").strip()
            if os.path.exists(tried):
                torch.load(tried, map_location="cpu")  # raises the hidden error
        return checkpoint

    return load_model
