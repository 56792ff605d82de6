import random
from pathlib import Path

from case_tools import small_resnet
from ofa.nas.accuracy_predictor import ResNetArchEncoder

SYMPTOM = r"AssertionError: another network for depths"


def run(_: Path) -> None:
    random.seed(0)
    for depths in ([0, 1, 2], [0, 1], [1, 2]):
        net = small_resnet(depth_list=list(depths))
        encoder = ResNetArchEncoder(
            depth_list=depths, expand_list=[0.2, 0.25], width_mult_list=[0.1, 0.2], image_size_list=[32]
        )
        stems = {min(depths), max(depths)}
        for _draw in range(20):
            feature = encoder.arch2feature({**net.sample_active_subnet(), "image_size": 32})
            sampled = net.module_str
            net.set_active_subnet(**encoder.feature2arch(feature))
            assert net.module_str == sampled, f"another network for depths {depths}"
            arch = encoder.random_sample_arch()
            encoder.mutate_arch(arch, 0.5)
            assert arch["d"][0] in stems
