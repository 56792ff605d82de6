"""Contract tests of deployment: exit rules and exporters."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import UserError
from ..exit_rules.base import ExitRule
from ..exporters.base import Exporter
from ..utils.seeding import forked_torch


def check_exit_rule(plugin: ExitRule) -> None:
    """Check for one finite confidence per sample, independent of other samples, highest if all exits are certain."""
    rng = np.random.default_rng(0)
    history = [rng.dirichlet(np.full(4, 0.3), size=6) for _ in range(3)]
    for exits in range(1, 4):
        confidence = plugin.confidence(history[:exits])
        assert confidence.shape == (6,), f"{plugin.name}: confidence must be [6], but got {list(confidence.shape)}"
        assert np.isfinite(confidence).all(), f"{plugin.name}: confidence must be finite, but got {confidence}"
        alone = [plugin.confidence([p[i : i + 1] for p in history[:exits]]).item() for i in range(6)]
        assert np.allclose(alone, confidence), f"{plugin.name}: confidence of a sample must not depend on the others"
    certain = plugin.confidence([np.eye(4)[[1] * 6]] * 3)
    assert (certain >= confidence).all(), f"{plugin.name}: exits that agree and are certain must be most confident"


class _TwoOutputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.linear = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = torch.relu(self.conv(x))
        return y, self.linear(y.mean((2, 3)))


def check_exporter(plugin: Exporter) -> None:
    """Check that its files match the network for any batch size; without its extra, that the error has the remedy."""
    assert plugin.suffix, f"{plugin.name} must have the suffix of its files"
    try:
        plugin.check_installed(to_export=True)
    except UserError as error:
        assert "pip install" in str(error), f"{plugin.name}: the error must say how to install it, but got {error}"
        return
    with forked_torch("contract"):
        net, images = _TwoOutputs().eval(), torch.randn(7, 3, 8, 8)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = Path(folder) / f"net.{plugin.suffix}"
        plugin.export(net, images[:2], path, output_names=("features", "logits"))
        written = {p.suffix.removeprefix(".") for p in Path(folder).iterdir()}
        declared = {plugin.suffix, *plugin.companions}
        assert written == declared, f"{plugin.name} must write files with {declared}, but wrote {written}"
        run = plugin.runner(path, threads=1)
        for n in (1, 2, 7):
            outputs, expected = run(images[:n].numpy()), [y.numpy() for y in net(images[:n])]
            assert len(outputs) == 2, f"{plugin.name}: the file must have the network's 2 outputs, not {len(outputs)}"
            for y, wanted in zip(outputs, expected, strict=True):
                assert np.allclose(y, wanted, atol=1e-4), f"{plugin.name}: the file's outputs differ from the network's"
