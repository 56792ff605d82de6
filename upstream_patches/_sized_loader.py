"""A data loader that draws one image size per batch, built on the public interface of torch's `DataLoader`.

It replaces the copy of an early torch 1.x loader in `ofa.utils.my_dataloader.my_data_loader`. `ofa` is
imported inside the functions because a worker process may import this module before it imports `ofa`.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset, IterableDataset

__all__ = ["MyDataLoader"]

SizedBatch = tuple[int, list[int]]


def draw_size(batch: int) -> int:
    """The image size that upstream draws for this batch; the random state of the process does not change."""
    from ofa.utils.my_dataloader import MyRandomResizedCrop

    state, active = random.getstate(), MyRandomResizedCrop.ACTIVE_SIZE
    try:
        MyRandomResizedCrop.sample_image_size(batch)
        size: int = MyRandomResizedCrop.ACTIVE_SIZE
        return size
    finally:
        random.setstate(state)
        MyRandomResizedCrop.ACTIVE_SIZE = active


class _SizedBatches:
    """The batches of a batch sampler, each with the size drawn for it.

    The main process draws the sizes: they depend on class attributes (the list of sizes and the epoch) that a
    spawned worker does not inherit.
    """

    def __init__(self, batches: Iterable[list[int]]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[SizedBatch]:
        for number, batch in enumerate(self.batches):
            yield draw_size(number), batch

    def __len__(self) -> int:
        return len(self.batches)  # type: ignore[arg-type]


class _SizedDataset(Dataset[Any]):
    """A dataset whose transforms use the image size that is passed with the batch."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, sized: SizedBatch) -> list[Any]:
        from ofa.utils.my_dataloader import MyRandomResizedCrop

        MyRandomResizedCrop.ACTIVE_SIZE, batch = sized
        if hasattr(self.dataset, "__getitems__"):
            samples: list[Any] = self.dataset.__getitems__(batch)
            return samples
        return [self.dataset[index] for index in batch]


class MyDataLoader(DataLoader[Any]):
    """torch's `DataLoader`; batches of a map-style dataset share one size of `MyRandomResizedCrop`."""

    def __iter__(self) -> Any:
        if self.batch_sampler is None or isinstance(self.dataset, IterableDataset):
            return super().__iter__()
        # a second loader, because this one must keep its own dataset and samplers as attributes
        sized: DataLoader[Any] = DataLoader(
            _SizedDataset(self.dataset),
            batch_sampler=_SizedBatches(self.batch_sampler),  # type: ignore[arg-type]
            num_workers=self.num_workers,
            collate_fn=self.collate_fn,
            pin_memory=self.pin_memory,
            timeout=self.timeout,
            worker_init_fn=self.worker_init_fn,
            multiprocessing_context=self.multiprocessing_context,
            generator=self.generator,
            prefetch_factor=self.prefetch_factor,
        )
        return iter(sized)
