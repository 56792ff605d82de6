"""Predictor `mlp`: a small multi-layer perceptron (OFA section 3.4: three layers on the encoded architecture)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ..utils.seeding import derive_seed
from .base import Predictor


class MultiLayerPerceptron(Predictor):
    """The mean of a few small perceptrons on standardised features; needs only torch.

    Args:
        hidden: Units of each of the two hidden layers.
        networks: Perceptrons whose predictions are averaged.
        updates: Full-batch optimizer steps of each perceptron.
        lr: Learning rate of AdamW, with a cosine schedule.
        weight_decay: Its weight decay.
        seed: Seed of the initial weights.
    """

    def __init__(
        self,
        hidden: int = 64,
        networks: int = 4,
        updates: int = 300,
        lr: float = 0.01,
        weight_decay: float = 0.1,
        seed: int = 0,
    ):
        for name, value in (("hidden", hidden), ("networks", networks), ("updates", updates)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, but got {value}")
        if lr <= 0 or weight_decay < 0:
            raise ValueError(f"lr must be above 0 and weight_decay at least 0, but got {lr} and {weight_decay}")
        self.hidden, self.networks, self.updates = hidden, networks, updates
        self.lr, self.weight_decay, self.seed = lr, weight_decay, seed
        self._nets: list[nn.Module] = []

    def fit(self, codes: np.ndarray, scores: np.ndarray) -> None:
        features, targets = _spread(codes), torch.as_tensor(np.asarray(scores), dtype=torch.float32)
        self._input_mean, self._input_std = features.mean(0), features.std(0, unbiased=False)
        self._mean, self._std = targets.mean(), targets.std(unbiased=False).clamp(min=1e-6)
        x, y = self._standardised(features), (targets - self._mean) / self._std
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self.seed, "mlp"))
            self._nets = [self._trained(x, y) for _ in range(self.networks)]

    def _trained(self, x: Tensor, y: Tensor) -> nn.Module:
        net = nn.Sequential(
            nn.Linear(x.shape[1], self.hidden),
            nn.ReLU(),
            nn.Linear(self.hidden, self.hidden),
            nn.ReLU(),
            nn.Linear(self.hidden, 1),
        )
        optimizer = torch.optim.AdamW(net.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.updates)
        for _ in range(self.updates):
            optimizer.zero_grad()
            nn.functional.mse_loss(net(x).squeeze(1), y).backward()
            optimizer.step()
            schedule.step()
        return net

    @torch.no_grad()
    def predict(self, codes: np.ndarray) -> np.ndarray:
        x = self._standardised(_spread(codes))
        mean = torch.stack([net(x).squeeze(1) for net in self._nets]).mean(0)
        return (mean * self._std + self._mean).numpy().astype(np.float64)

    def _standardised(self, features: Tensor) -> Tensor:
        constant = self._input_std < 1e-6
        return torch.where(constant, 0.0, (features - self._input_mean) / self._input_std.clamp(min=1e-6))


def _spread(codes: np.ndarray) -> Tensor:
    """Features [N, F] and, for each, whether it is present: [N, 2F]; an absent one counts as 0."""
    features = torch.as_tensor(np.asarray(codes), dtype=torch.float32)
    present = features >= 0
    return torch.cat([torch.where(present, features, 0.0), present.float()], dim=1)
