import json
from pathlib import Path

from case_tools import randomise, same_output, small_resnet
from ofa.imagenet_classification.networks import ResNets

SYMPTOM = r"AttributeError: 'IdentityLayer' object has no attribute 'pop'"


def run(_: Path) -> None:
    net = randomise(small_resnet())
    net.set_max_net()
    config = net.get_active_net_config()
    text = None if _is_broken(config) else json.dumps(config)
    rebuilt = ResNets.build_from_config(config)
    rebuilt.load_state_dict(net.get_active_subnet().state_dict())
    assert text is not None
    assert same_output(net, rebuilt)


def _is_broken(config: dict) -> bool:
    return not isinstance(config["input_stem"][1]["shortcut"], dict)
