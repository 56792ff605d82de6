from pathlib import Path

import torch
from case_tools import small_net, small_resnet
from ofa.imagenet_classification.elastic_nn.networks import OFAProxylessNASNets
from ofa.imagenet_classification.networks import MobileNetV2, MobileNetV3Large

SYMPTOM = r"AssertionError: .* loaded nothing without an error"


def run(_: Path) -> None:
    small, elastic = small_net(ks_list=3), small_net(ks_list=[3, 5])
    proxyless = OFAProxylessNASNets(n_classes=6, depth_list=1)
    for net in (small, elastic, small_resnet(), proxyless, MobileNetV2(), MobileNetV3Large()):
        try:
            net.load_state_dict({})
        except RuntimeError as error:
            assert 'Missing key(s) in state_dict: "' in str(error)
        else:
            raise AssertionError(f"{type(net).__name__} loaded nothing without an error")
        net.load_state_dict(net.state_dict())

    report = small.load_state_dict({"classifier.linear.bias": torch.ones(6)}, strict=False)
    assert "classifier.linear.weight" in report.missing_keys
    assert small.classifier.linear.bias.tolist() == [1] * 6
    # the two partial loads which training relies on: no kernel transforms, a static network's keys
    wide, narrow = small_net(ks_list=[3, 5]), small_net(ks_list=5)
    wide.load_state_dict(narrow.state_dict())
    narrow.set_max_net()
    wide.load_state_dict(narrow.get_active_subnet().state_dict())
    assert torch.equal(wide.classifier.linear.weight, narrow.classifier.linear.weight)
