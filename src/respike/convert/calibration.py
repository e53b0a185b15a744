"""Calibration images: what a conversion measures activations on, and how it reads them in batches."""

import itertools
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from respike.data.pixels import to_unit
from respike.errors import InputError
from respike.system.distributed import all_gather

Images = (
    Tensor | Iterable[Tensor] | Iterable[Sequence[Tensor]]
)  # or batches (images, labels), as a DataLoader gives them
PIXELS = 1 << 16  # about so many are enough to compare networks
EMPTY = "the calibration set is empty; give at least one image"


def image_batches(images: Images, size: int = 500) -> Iterator[Tensor]:
    """Float batches (B, C, H, W) of at most `size` images, from one tensor or an iterable of tensors or (images, labels).

    uint8 pixels are divided by 255, floating-point images are passed on as they are. Raises InputError for anything else.
    """
    for part in tensors(images):
        for batch in part.split(size) if len(part) else ():
            yield to_unit(batch)


def tensors(images: Images) -> Iterator[Tensor]:
    """The tensors of images, without labels. Raises InputError for anything else."""
    for part in [images] if isinstance(images, Tensor) else images:
        batch = part[0] if isinstance(part, list | tuple) and part else part
        if not isinstance(batch, Tensor):
            raise InputError(
                f"calibration images: {type(batch).__name__} is not a tensor; give a tensor (B, C, H, W), several of them, or "
                "a DataLoader whose batches are images or begin with images"
            )
        yield batch


def first_images(images: Images) -> tuple[Tensor, Images]:
    """A few of the images as `image_batches` gives them, 1 to 8 by their size, to compare networks on; and all images.

    The few are an empty tensor if there are none, as on a process of a distributed run that has no share.
    """
    parts = tensors(images)
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
