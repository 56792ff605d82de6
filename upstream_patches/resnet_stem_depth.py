"""The ResNet architecture encoder assumes that the largest depth of every space is 2.

Symptom: with `depth_list=[0, 1]` or `[1, 2]`, an architecture sampled from OFAResNets has a different input
    stem after `arch2feature` and `feature2arch`, and `random_sample_arch` draws stems that the network does
    not have. No error, wrong features for the accuracy predictor.
Upstream: ofa/nas/accuracy_predictor/arch_encoder.py, lines 258, 294, 297, 344 and 361; the network compares
    with `max(self.depth_list)`.
Affects: ofa 0.1.0.post202307202001, every torch.
Drop when: the encoder derives the stem's depth from its `depth_list`.
"""

from types import ModuleType

from ._support import Defect, edit

_defect = Defect("ofa.nas.accuracy_predictor.arch_encoder", "input_stem_skip = 1 if d[0] > 0 else 0")


def needed() -> bool:
    return _defect.present()


def apply() -> None:
    _defect.repair(_use_depth_list)


def _use_depth_list(module: ModuleType) -> None:
    encoder = module.ResNetArchEncoder
    low, high = "min(self.depth_list)", "max(self.depth_list)"
    edit(encoder.arch2feature, ("1 if d[0] > 0 else 0", f"1 if d[0] == {high} else 0"))
    edit(encoder.feature2arch, ('"d": [input_stem_skip]', f'"d": [{high} if input_stem_skip else {low}]'))
    for function in (encoder.random_sample_arch, encoder.mutate_arch):
        edit(function, ("random.choice([0, 2])", f"random.choice([{low}, {high}])"))
