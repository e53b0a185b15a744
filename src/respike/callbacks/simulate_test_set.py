"""Simulates the test set in parts, on all ranks of a distributed job. Shared by the callbacks of the three methods."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from respike.data.datamodule import ImageDataModule
from respike.simulate.record import SpikeRecord
from respike.simulate.ttfs.record import TTFSRecord
from respike.system.distributed import all_gather, rank, shard_range

Record = TypeVar("Record", SpikeRecord, TTFSRecord)
PART_BYTES = 1 << 30  # of pixels, at a time


def simulate_test_set(
    simulate: Callable[..., Record],
    snn: nn.Module,
    data: ImageDataModule,
    device: torch.device,
    part_size: int | None = None,
) -> Record:
    """The record of all test images, on every rank. Each rank simulates its share.

    simulate: (snn, images, index=..., progress=...) -> record. part_size: number of images that are copied to memory and
    to the device at a time; None: about a gigabyte of pixels. Fixed-point results do not depend on how the images are split.
    """
    index, pixels = data.index["test"], data.images.test_images
    share = shard_range(len(index))
    part_size = part_size or max(1, PART_BYTES // pixels.shape[1:].numel())
    records = []
    if len(share):
        for numbers in index[share.start : share.stop].split(part_size):
            images = pixels[numbers].to(device)
            records.append(simulate(snn, images, index=numbers, progress=rank() == 0))
    everyone = [record for gathered in all_gather(records) for record in gathered]
    return type(everyone[0]).merge(everyone)
