"""The rows of the speed benchmark with their targets; see speed.py."""

from __future__ import annotations

from dataclasses import dataclass

BATCH = 64
"""Images per training step, unless a row says otherwise."""


@dataclass(frozen=True)
class Training:
    """A row that measures training steps.

    Args:
        target: The ratio to reach.
        floor: The lowest acceptable ratio.
        size: Height and width of the images in pixels.
        random: Whether random subnets are trained, one step each, instead of the maximal network.
        backbone: The backbone.
        width: Width multiplier.
        batch: Images per step.
        threads: Number of threads; None for the number on the command line.
        against: Mode of upstream: "plain", "channels-last" or "torch.compile".
    """

    target: float = 3.0
    floor: float = 2.0
    size: int = 64
    random: bool = False
    backbone: str = "mobilenet_v3"
    width: float = 1.0
    batch: int = BATCH
    threads: int | None = None
    against: str = "plain"

    @property
    def name(self) -> str:
        """The row's name: every value that is not the default."""
        parts = [self.backbone] if self.backbone != "mobilenet_v3" else []
        parts += ["training", "20 random subnets" if self.random else "maximal network", f"{self.size} px"]
        parts += [f"width {self.width}"] if self.width != 1 else []
        parts += [f"batch {self.batch}"] if self.batch != BATCH else []
        parts += [f"{self.threads} thread"] if self.threads else []
        parts += [f"against {self.against}"] if self.against != "plain" else []
        return ", ".join(parts)


_TRAININGS = [
    *(Training(size=size, random=drawn) for size in (64, 48) for drawn in (False, True)),
    *(Training(target=2.5, size=32, random=drawn) for drawn in (False, True)),
    *(Training(size=56, random=drawn) for drawn in (False, True)),
    *(Training(threads=1, random=drawn) for drawn in (False, True)),
    *(Training(width=1.2, random=drawn) for drawn in (False, True)),
    *(Training(batch=batch, random=drawn) for batch in (16, 256) for drawn in (False, True)),
    *(Training(target=1.2, floor=1.0, random=drawn, against="channels-last") for drawn in (False, True)),
    Training(target=1.2, floor=1.0, against="torch.compile"),
    *(Training(target=2.5, floor=1.8, backbone="proxyless", random=drawn) for drawn in (False, True)),
    *(Training(target=1.3, floor=1.0, backbone="resnet50", random=drawn) for drawn in (False, True)),
]
TRAININGS = {row.name: row for row in _TRAININGS}

SEARCH = "measuring for a search, EE_D at all heights, 64 px"
"""The row that measures 8 trunks at 5 heights."""

# row: (target, floor)
TARGETS = {
    **{name: (row.target, row.floor) for name, row in TRAININGS.items()},
    "one subnet, re-calibrated and evaluated, 64 px": (2.5, 2.0),
    "48 subnets, re-calibrated and evaluated, 64 px": (4.0, 2.0),
    SEARCH: (4.0, 3.0),
    "EE_DP, all exits, against its plain layers, 64 px": (2.5, 1.8),
}
