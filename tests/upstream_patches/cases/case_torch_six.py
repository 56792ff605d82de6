import random
from pathlib import Path
from typing import Any

import torch
from case_tools import image_folder
from ofa.imagenet_classification.data_providers import ImagenetDataProvider
from ofa.utils import MyRandomResizedCrop

SYMPTOM = r"ModuleNotFoundError: No module named 'torch._six'"


def sizes(loader: Any) -> list[int]:
    batches = list(loader)
    assert len(batches) == len(loader)
    assert all(images.shape == (len(labels), 3, images.shape[2], images.shape[2]) for images, labels in batches)
    assert sum(len(labels) for _, labels in batches) == len(loader.dataset)
    return [images.shape[2] for images, _ in batches]


def run(folder: Path) -> None:
    image_folder(folder)
    drawn = {}
    for workers, epochs in ((0, (0, 1)), (2, (1,))):
        provider = ImagenetDataProvider(
            train_batch_size=3, test_batch_size=6, n_worker=workers, image_size=[24, 28, 32]
        )
        assert isinstance(provider.train.sampler, torch.utils.data.RandomSampler)
        assert provider.train.num_workers == workers
        for epoch in epochs:
            MyRandomResizedCrop.EPOCH = epoch
            random.seed(7)
            drawn[workers, epoch] = sizes(provider.train)
            assert random.random() == random.Random(7).random()  # no draw from the user's stream
    assert drawn[2, 1] == drawn[0, 1] != drawn[0, 0]
    assert {*drawn[0, 0], *drawn[0, 1]} == {24, 28, 32}

    from ofa.utils.my_dataloader.my_data_loader import MyDataLoader

    spawned = MyDataLoader(provider.train.dataset, 9, num_workers=1, multiprocessing_context="spawn")
    assert sizes(spawned) == drawn[0, 1][:2]
    assert list(MyDataLoader(range(4), batch_size=None)) == [0, 1, 2, 3]
