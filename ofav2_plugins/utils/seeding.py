"""Random numbers that depend only on their position in the training: (seed, phase, epoch, step, ...).

Library code never draws from the global generators or changes them. A run that resumes within a phase draws the same
numbers as an uninterrupted run.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derive_seed(*parts: object) -> int:
    """A 63-bit seed from any parts with a stable string form (ints, strings), e.g. `(seed, "kernel", epoch, step)`."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def python_rng(*parts: object) -> random.Random:
    """A new `random.Random` seeded from these parts."""
    return random.Random(derive_seed(*parts))


def torch_rng(*parts: object) -> torch.Generator:
    """A new CPU `torch.Generator` seeded from these parts."""
    import torch

    return torch.Generator().manual_seed(derive_seed(*parts))


@contextmanager
def forked_torch(*parts: object) -> Iterator[None]:
    """Seed torch's global generators from these parts; restore them on exit.

    For code that takes no generator: dropout, and the initialisation in the constructors of `torch.nn`.
    """
    import torch

    seed = derive_seed(*parts)
    gpus = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []  # one, not every GPU of the machine
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    with torch.random.fork_rng(devices=gpus):
        torch.default_generator.manual_seed(seed)
        if gpus:
            torch.cuda.manual_seed(seed)
        if mps is not None:
            torch.mps.manual_seed(seed)
        try:
            yield
        finally:
            if mps is not None:
                torch.mps.set_rng_state(mps)
