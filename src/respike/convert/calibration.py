"""Calibration images: what a conversion measures activations on, and how it reads them in batches."""

import itertools
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from respike.data.pixels import to_unit
from respike.system.distributed import all_gather

Images = Tensor | Iterable[Tensor]
PIXELS = 1 << 16  # about so many are enough to compare networks
EMPTY = "the calibration set is empty; give at least one image"


def image_batches(images: Images, size: int = 500) -> Iterator[Tensor]:
    """Float batches (B, C, H, W) of at most `size` images, from one tensor or an iterable of tensors.

    uint8 pixels are divided by 255, floating-point images are passed on as they are.
    """
    for part in [images] if isinstance(images, Tensor) else images:
        for batch in part.split(size) if len(part) else ():
            yield to_unit(batch)


def first_images(images: Images) -> tuple[Tensor, Images]:
    """A few of the images as `image_batches` gives them, 1 to 8 by their size, to compare networks on; and all images.

    The few are an empty tensor if there are none, as on a process of a distributed run that has no share.
    """
    parts = iter([images] if isinstance(images, Tensor) else images)
    read: list[Tensor] = []
    for part in parts:
        read.append(part)
        if len(part):
            break
    if not read:
        return torch.empty(0), images
    few = max(1, min(8, PIXELS // max(1, read[-1][:1].numel())))
    return to_unit(read[-1][:few]), images if isinstance(images, Tensor | list) else itertools.chain(read, parts)


def images_shape(few: Tensor) -> torch.Size | None:
    """The shape (C, H, W) of a few images, of which one process of several may have none; None if no process has any."""
    shapes = [shape for shape in all_gather(tuple(few.shape[1:])) if shape]
    return torch.Size(shapes[0]) if shapes else None
