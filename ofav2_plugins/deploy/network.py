"""The network of a bundle as a torch module."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ..models.subnet import Subnet
from ..teachers.ensemble import ExitEnsemble
from .bundle_config import BundleConfig
from .early_exit import Answers, ExitPolicy, run_chain
from .segments import keep_exits, split_at_exits


class DeployedNetwork(nn.Module):
    """The network of a bundle: images [N, 3, r, r], preprocessed, to logits [N, n_classes].

    With early exits, the logits of each image come from the exit at which it leaves.

    Args:
        net: The static network that `config.network` describes.
        config: The bundle's configuration.
    """

    def __init__(self, net: Subnet, config: BundleConfig):
        super().__init__()
        self.net = net
        self.config = config
        self.policy = ExitPolicy.of(config)

    @property
    def class_names(self) -> list[str]:
        """The name of each class."""
        return self.config.class_names

    def preprocess(self, path: str | Path) -> Tensor:
        """An image file as the network's input [3, r, r]. Raises UserError if it cannot be read."""
        return torch.from_numpy(self.config.preprocessing(Path(path)))

    def forward(self, images: Tensor) -> Tensor:
        if self.config.output == "early":
            return torch.from_numpy(self.answer(images).logits).to(images)
        logits: Tensor = self.whole()(images)
        return logits

    @torch.no_grad()
    def answer(self, images: Tensor) -> Answers:
        """Logits, calibrated probabilities and the exit taken, for each image."""
        return run_chain(self.chain(), self.policy, images)

    def chain(self) -> list[nn.Module]:
        """The segments that `answer` runs: one per exit at which the network can answer."""
        if self.config.output == "early":
            return list(split_at_exits(self.net))
        return [_AsSegment(self.whole())]

    def whole(self) -> nn.Module:
        """The whole network, without leaving early: its last exit, or the ensemble of its exits."""
        if self.config.output == "ensemble":
            assert self.config.ensemble is not None
            return ExitEnsemble(self.net, [self.config.ensemble[int(number)] for number in self.net.exits])
        if self.config.output == "early":
            return keep_exits(self.net, [int(list(self.net.exits)[-1])], multi_exit=False)
        return self.net


class _AsSegment(nn.Module):
    """A whole network as the only segment of a chain."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> tuple[Tensor]:
        return (self.net(images),)
