"""CIFAR-10 and CIFAR-100 as torchvision reads them from a folder. Nothing is downloaded: 170 MB are a person's choice."""

from pathlib import Path

import torch
from torchvision import datasets

from respike.data.image_set import ImageSet
from respike.errors import InputError

PAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"


def cifar10(root: str | Path) -> ImageSet:
    """50,000 + 10,000 images (N, 3, 32, 32) of 10 classes, from root/cifar-10-batches-py.

    Raises InputError where they are not there, or damaged.
    """
    return _read(datasets.CIFAR10, Path(root).expanduser(), "CIFAR-10", "; JPEG copies of them are data=cifar10_jpeg")


def cifar100(root: str | Path) -> ImageSet:
    """50,000 + 10,000 images (N, 3, 32, 32) of 100 classes, from root/cifar-100-python. Raises as `cifar10`."""
    return _read(datasets.CIFAR100, Path(root).expanduser(), "CIFAR-100")


def _read(source: type[datasets.CIFAR10], root: Path, name: str, instead: str = "") -> ImageSet:
    try:
        parts = [source(str(root), train=train, download=False) for train in (True, False)]
    except (RuntimeError, OSError, EOFError, KeyError) as error:  # torchvision: missing, or of another checksum
        raise InputError(
            f"no {name} in {root / source.base_folder}, or a damaged one: unpack {source.filename} of {PAGE} there, or type "
            f"data.root=/path/to/its/parent{instead}"
        ) from error
    tensors = []
    for part in parts:
        tensors += [torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(part.targets)]
    return ImageSet(name, *tensors, classes=tuple(parts[0].classes))
