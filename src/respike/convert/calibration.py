"""Calibration images: what a conversion measures activations on, and how it reads them in batches."""

from collections.abc import Iterable, Iterator
from itertools import chain

import torch
from torch import Tensor

from respike.data.pixels import to_unit

Images = Tensor | Iterable[Tensor]
EMPTY = "the calibration set is empty; give at least one image"


def image_batches(images: Images, size: int = 500) -> Iterator[Tensor]:
    """Float batches (B, C, H, W) of at most `size` images, from one tensor or an iterable of tensors.

    uint8 pixels are divided by 255, floating-point images are passed on as they are.
    """
    for part in [images] if isinstance(images, Tensor) else images:
        for batch in part.split(size) if len(part) else ():
            yield to_unit(batch)


def first_image_shape(images: Images | None) -> tuple[Images | None, torch.Size | None]:
    """The images, unread, and the shape (C, H, W) of the first; None without images."""
    if images is None or isinstance(images, Tensor):
        return images, None if images is None or not len(images) else images.shape[1:]
    if isinstance(images, list | tuple):
        return images, next((part.shape[1:] for part in images if len(part)), None)
    parts = iter(images)
    first = next(parts, None)
    return (iter(()), None) if first is None else (chain([first], parts), first.shape[1:])
