"""Random numbers that depend only on where one is: (seed, phase, epoch, step, ...).

Library code never draws from, or leaves changed, the global generators: a run that resumes in the middle of a
phase must draw what the uninterrupted run would have drawn.
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
    """A 63-bit seed from any parts that print stably (ints, strings), e.g. `(seed, "kernel", epoch, step)`."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def python_rng(*parts: object) -> random.Random:
    """A `random.Random` of its own for these parts."""
    return random.Random(derive_seed(*parts))


def torch_rng(*parts: object) -> torch.Generator:
    """A CPU `torch.Generator` of its own for these parts."""
    import torch

    return torch.Generator().manual_seed(derive_seed(*parts))


@contextmanager
def forked_torch(*parts: object) -> Iterator[None]:
    """Within it torch's global generators are seeded from these parts; afterwards they are as before.

    For what takes no generator: dropout and the initialisation inside `torch.nn` constructors.
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
