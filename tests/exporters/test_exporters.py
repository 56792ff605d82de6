"""Every registered exporter on real networks: the file computes what the network computes, for any batch size."""

from __future__ import annotations

import errno
import subprocess
import sys

import numpy as np
import pytest
import torch

import ofav2_plugins as ofav2
from ofav2_plugins import registry
from ofav2_plugins.deploy.segments import split_at_exits
from ofav2_plugins.models.batch_norm import fold_bn


def installed(name: str):
    """The exporter; skips the test if its extra is not installed."""
    exporter = registry.load(registry.EXPORTERS, name)
    try:
        exporter.check_installed(to_export=True)
    except ofav2.UserError as error:
        pytest.skip(str(error))
    return exporter


def trained(net: torch.nn.Module) -> torch.nn.Module:
    """A static network with batch norms that are not trivial, folded if possible."""
    net.train()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _ in range(3):
            net(torch.randn(16, 3, 24, 24, generator=generator))
    fold_bn(net.eval())
    return net


def network(supernet: str, multi_exit: bool, **arch):
    """A static network of a supernet."""
    net = ofav2.build_supernet(supernet, n_classes=6, width_mult=0.25)
    net.set_active_subnet(**arch)
    return trained(net.get_multi_exit_subnet() if multi_exit else net.get_active_subnet())


def assert_same(exporter, path, net, x: torch.Tensor) -> None:
    run = exporter.runner(path, threads=1)
    for n in (1, 2, 5, len(x)):
        with torch.no_grad():
            expected = net(x[:n])
        for got, wanted in zip(
            run(x[:n].numpy()), expected if isinstance(expected, tuple) else [expected], strict=True
        ):
            scale = max(1.0, wanted.abs().max().item())
            np.testing.assert_allclose(got / scale, wanted.numpy() / scale, atol=1e-4)


@pytest.mark.parametrize("name", registry.names(registry.EXPORTERS))
def test_a_network_with_branches_and_dense_skips(name, tmp_path):
    exporter = installed(name)
    net = network("EE_DP", False, ks=3, e=3, d=[3, 2, 2, 2, 2], height=2)
    x = torch.randn(33, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    path = tmp_path / f"model.{exporter.suffix}"
    exporter.export(net, x[:2], path)
    assert_same(exporter, path, net, x)


@pytest.mark.parametrize("backbone", registry.names(registry.BACKBONES))
def test_every_backbone_with_every_branch(backbone, tmp_path):
    spec = ofav2.SupernetSpec(
        backbone=backbone, branches=tuple(registry.names(registry.BRANCHES)), skip="dense", exits="every_stage"
    )
    net = ofav2.build_supernet(spec, n_classes=6, width_mult=0.25)
    space = net.space
    net.set_active_subnet(**{**space.min_arch(), "level": space.max_arch()["level"], "height": 1})
    static = trained(net.get_active_subnet())
    exporter = installed("onnx")
    x = torch.randn(5, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    path = tmp_path / f"model.{exporter.suffix}"
    exporter.export(static, x[:2], path)
    assert_same(exporter, path, static, x)


@pytest.mark.parametrize("name", registry.names(registry.EXPORTERS))
def test_a_segment_of_a_chain(name, tmp_path):
    exporter = installed(name)
    _, segment, *_ = split_at_exits(network("EE_B", True, ks=3, e=3, d=2, height=3))
    x = torch.randn(9, 8, 12, 12, generator=torch.Generator().manual_seed(1))
    path = tmp_path / f"model.exit-2.{exporter.suffix}"
    exporter.export(segment, x[:2], path, "features", ("next_features", "logits"))
    assert_same(exporter, path, segment, x)


def test_running_an_onnx_file_needs_no_torch(tmp_path):
    exporter = installed("onnx")
    path = tmp_path / "linear.onnx"
    exporter.export(torch.nn.Linear(3, 2).eval(), torch.zeros(2, 3), path)
    code = (
        "import sys\nimport numpy as np\nfrom pathlib import Path\nfrom ofav2_plugins import registry\n"
        "run = registry.load(registry.EXPORTERS, 'onnx').runner(Path(sys.argv[1]))\n"
        "print(run(np.zeros((4, 3), np.float32))[0].shape, 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert done.stdout == "(4, 2) False\n", done.stderr


def test_settings():
    assert registry.load(registry.EXPORTERS, {"name": "onnx", "opset": 20}).opset == 20
    with pytest.raises(ofav2.PluginError, match=r"opset must be in 18..23, but got 9"):
        registry.load(registry.EXPORTERS, {"name": "onnx", "opset": 9})
    with pytest.raises(ofav2.PluginError, match=r"max_batch must be at least 1, but got 0"):
        registry.load(registry.EXPORTERS, {"name": "executorch", "max_batch": 0})
    with pytest.raises(ofav2.PluginError, match=r"no setting 'opsets'; its settings are opset: int = 18"):
        registry.load(registry.EXPORTERS, {"name": "onnx", "opsets": 9})


def test_a_full_disk_is_an_os_error_and_does_not_abort_the_process(small_disk):
    """torch's own writer aborts the process when it is destroyed."""
    script = (
        "import sys, torch; from pathlib import Path; from ofav2_plugins import registry\n"
        "exporter = registry.load(registry.EXPORTERS, 'torch_export')\n"
        "net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 100)).eval()\n"
        "try: exporter.export(net, torch.randn(2, 3, 16, 16), Path(sys.argv[1]))\n"
        "except OSError as error: sys.exit(error.errno)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, small_disk / "model.pt2"], capture_output=True, text=True)
    assert done.returncode == errno.ENOSPC, done.stderr
