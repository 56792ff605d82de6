from pathlib import Path

from case_tools import randomise, same_output, small_net
from ofa.imagenet_classification.networks import MobileNetV3
from ofa.nas.efficiency_predictor import Mbv3FLOPsModel
from ofa.utils import count_net_flops

SYMPTOM = r"AssertionError: subnet differs"


def run(_: Path) -> None:
    net = randomise(small_net(expand_ratio_list=[1, 3]))
    net.set_active_subnet(e=1)
    subnet = net.get_active_subnet()
    assert same_output(net, subnet), "subnet differs"
    rebuilt = MobileNetV3.build_from_config(net.get_active_net_config())
    rebuilt.load_state_dict(subnet.state_dict())
    assert same_output(net, rebuilt)
    flops = count_net_flops(subnet, (1, 3, 64, 64)) / 1e6
    predicted = Mbv3FLOPsModel(net).get_efficiency({"e": 1, "image_size": 64})
    assert abs(flops - predicted) < 1e-3
    assert small_net(expand_ratio_list=1).get_active_net_config()["blocks"][1]["conv"]["expand_ratio"] == 1
