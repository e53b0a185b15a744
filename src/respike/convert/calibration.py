"""Calibration images: what a conversion measures activations on, and how it reads them in batches."""

from collections.abc import Iterable, Iterator

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
