from pathlib import Path

import torch
from case_tools import randomise, same_output, small_net
from ofa.imagenet_classification.elastic_nn.modules import DynamicBatchNorm2d
from ofa.imagenet_classification.elastic_nn.utils import set_running_statistics
from ofa.utils import init_models

SYMPTOM = r"AssertionError: subnet differs"


class OurBatchNorm(torch.nn.BatchNorm2d):
    pass


def run(_: Path) -> None:
    net = small_net()
    for module in net.modules():
        if isinstance(module, DynamicBatchNorm2d):
            module.bn = OurBatchNorm(module.bn.num_features)
    randomise(net)
    net.set_active_subnet(ks=3, e=3, d=1)
    assert same_output(net, net.get_active_subnet()), "subnet differs"

    net.set_max_net()
    images = torch.randn(2, 3, 32, 32)
    before = net(images)
    net.re_organize_middle_weights()
    assert torch.allclose(before, net(images), rtol=1e-3, atol=1e-4), "reorganised net differs"

    norms = [module for module in net.modules() if isinstance(module, OurBatchNorm)]
    net.set_bn_param(momentum=0.3, eps=0.2)
    init_models(net)
    assert all((norm.momentum, norm.eps, norm.weight.mean()) == (0.3, 0.2, 1) for norm in norms)
    _check_sync_batch_norm(images)


def _check_sync_batch_norm(images: torch.Tensor) -> None:
    net = torch.nn.SyncBatchNorm.convert_sync_batchnorm(small_net())
    assert net.get_bn_param()["eps"] == 1e-5
    set_running_statistics(net, [(images, None)])
    norms = [module for module in net.modules() if isinstance(module, torch.nn.SyncBatchNorm)]
    assert all(norm.running_mean.abs().sum() > 0 for norm in norms)
