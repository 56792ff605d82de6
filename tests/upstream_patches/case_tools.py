"""What the cases share: tiny images, a run manager for them, a local web server, a time limit."""

import contextlib
import http.server
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image


def image_folder(folder: Path, classes: int = 6, train: int = 3, val: int = 1) -> None:
    """Write ImageNet's folders with noise for images, and tell upstream's data provider."""
    from ofa.imagenet_classification.data_providers import ImagenetDataProvider

    noise = np.random.default_rng(0)
    for part, count in (("train", train), ("val", val)):
        for label in range(classes):
            path = folder / "images" / part / str(label)
            path.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                pixels = noise.integers(0, 255, (40, 40, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(path / f"{number}.png")
    ImagenetDataProvider.DEFAULT_PATH = str(folder / "images")


def small_net(**options: Any) -> Any:
    from ofa.imagenet_classification.elastic_nn.networks import OFAMobileNetV3

    options = {"ks_list": [3, 5], "expand_ratio_list": [3, 4], "depth_list": [1, 2], **options}
    return OFAMobileNetV3(n_classes=6, dropout_rate=0, **options)


def small_resnet(**options: Any) -> Any:
    from ofa.imagenet_classification.elastic_nn.networks import OFAResNets

    options = {
        "depth_list": [0, 1],
        "expand_ratio_list": [0.2, 0.25],
        "width_mult_list": [0.1, 0.2],
        **options,
    }
    return OFAResNets(n_classes=6, **options)


def run_manager(folder: Path, net: Any, init: bool = False, **options: Any) -> Any:
    from ofa.imagenet_classification.run_manager import ImagenetRunConfig, RunManager

    image_folder(folder)
    sizes = {"train_batch_size": 6, "test_batch_size": 6, "valid_size": 6, "image_size": 32}
    config = ImagenetRunConfig(n_epochs=1, init_lr=0.01, n_worker=0, **{**sizes, **options})
    return RunManager(str(folder / "run"), net, config, init=init, no_gpu=True)


def randomise(net: Any) -> Any:
    """Weights and statistics which make a wrong copy of either show in the output; evaluation mode."""
    for module in net.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.8, 1.2)
            module.weight.data.uniform_(0.8, 1.2)
        elif isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    return net.eval()


def same_output(first: Any, second: Any, size: int = 32, channels: int = 3) -> bool:
    with torch.no_grad():
        images = torch.randn(2, channels, size, size)
        left, right = first.eval()(images), second.eval()(images)
    return left.shape == right.shape and torch.allclose(left, right, rtol=1e-3, atol=1e-4)


@contextlib.contextmanager
def web_server(body: bytes, announced: int | None = None) -> Iterator[str]:
    """Serves `body`, with a Content-Length of `announced` bytes if that is given."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(announced or len(body)))
            self.end_headers()
            self.wfile.write(body)

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/file"
        server.shutdown()


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Break an endless loop with a TimeoutError after `seconds` of CPU time, which other processes do not shorten."""

    def stop(*_: Any) -> None:
        raise TimeoutError(f"still running after {seconds} s")

    signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
