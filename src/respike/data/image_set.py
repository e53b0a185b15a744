"""One published data set, whole, in memory (or mapped into it)."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from respike.errors import InputError


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images and labels of one data set, as published: no scaling, no split but its own.

    name: as tables print it; train_images, test_images: uint8 (N, C, H, W); train_labels, test_labels: int64 (N,),
    positions in `classes`; reduced: None for the whole published data set, else why it is not, for tables.
    Raises InputError where the arrays do not fit each other.
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: tuple[str, ...]
    reduced: str | None = None

    def __post_init__(self):
        for part in ("train", "test"):
            images, labels = getattr(self, f"{part}_images"), getattr(self, f"{part}_labels")
            if images.dtype != torch.uint8 or images.ndim != 4:
                raise InputError(f"{self.name}: {part} images are {_form(images)}, uint8 (N, C, H, W) is needed")
            if labels.dtype != torch.int64 or labels.shape != images.shape[:1] or len(labels) == 0:
                raise InputError(f"{self.name}: {part} labels are {_form(labels)}, int64 ({len(images)},) is needed")
            if labels.min() < 0 or labels.max() >= len(self.classes):
                raise InputError(
                    f"{self.name}: {part} labels reach from {labels.min()} to {labels.max()}, "
                    f"0 to {len(self.classes) - 1} is needed"
                )
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise InputError(
                f"{self.name}: training images are {_form(self.train_images)}, "
                f"test images {_form(self.test_images)}: both must have one (C, H, W)"
            )

    @cached_property
    def sha256(self) -> str:
        """Hex digest over the bytes and shapes of the four arrays: the same wherever they came from."""
        digest = hashlib.sha256()
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(str(tuple(array.shape)).encode())
            digest.update(array.contiguous().numpy().reshape(-1).view("uint8").data)
        return digest.hexdigest()


def _form(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
