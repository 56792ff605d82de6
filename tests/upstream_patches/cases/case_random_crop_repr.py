from pathlib import Path

from ofa.utils import MyRandomResizedCrop

SYMPTOM = r"KeyError: <InterpolationMode.BILINEAR"


def run(_: Path) -> None:
    text = repr(MyRandomResizedCrop([24, 32]))
    assert text.startswith("MyRandomResizedCrop(size=[224], scale=(0.08, 1.0)")
    assert text.endswith("interpolation=PIL.Image.BILINEAR)")
