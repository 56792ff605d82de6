from pathlib import Path

from case_tools import randomise, same_output, small_net
from ofa.utils import MyConv2d

SYMPTOM = r"RuntimeError: Boolean value of Tensor with more than one value is ambiguous"


def run(_: Path) -> None:
    net = small_net()
    net.set_bn_param(momentum=0.1, eps=1e-5, ws_eps=1e-5)
    standardised = [module for module in net.modules() if isinstance(module, MyConv2d)]
    assert standardised
    assert all(module.bias is None and module.WS_EPS == 1e-5 for module in standardised)
    randomise(net).sample_active_subnet()
    assert same_output(net, net.get_active_subnet())
