"""A folder of image files as an ImageSet.

`image_folder` decodes them once into a file of pixels, which is memory-mapped from then on. `imagenet_folder`, for sets whose
pixels fit no disk, decodes them whenever they are needed.
"""

import hashlib
import json
import logging
import os
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms import functional
from tqdm import tqdm

from respike.data.datasets import ImageFiles, ImageSet
from respike.errors import InputError
from respike.system.cache import cache_folder
from respike.system.files import write_atomically

log = logging.getLogger(__name__)

PIXELS_VERSION = 2  # part of the cache key; raise it if the same files decode to other pixels
MODES = {1: "L", 3: "RGB"}  # number of channels -> Pillow's mode
BLOCK = 512  # images decoded at a time
LOOKED_AT = 16  # images of each part whose headers are read at the start
# Pillow's errors depend on the image format
PILLOW_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
TIFF_BITS, TIFF_PHOTOMETRIC = 258, 262  # tag numbers


@dataclass(frozen=True)
class Listing:
    """The image files of train/ or of test/: classes in sorted order, and (file, number of its class) in a fixed order."""

    classes: list[str]
    samples: list[tuple[Path, int]]


def image_folder(
    root: str | Path,
    size: int,
    channels: int,
    cache_dir: str | Path | None = None,
    name: str | None = None,
    train_files: int | None = None,
    test_files: int | None = None,
) -> ImageSet:
    """Images of root/train/<class>/* and root/test/<class>/* as (N, channels, size, size), classes in sorted order.

    root: a folder, a tar file of such a folder, or a folder that holds one tar file. size: the shorter side is resized to
    this many pixels, then the centre is cropped. channels: 1 (grey) or 3 (RGB). cache_dir: folder for the decoded pixels
    (default: in the user's cache folder); they are decoded again if a file was changed, added or renamed. name: for
    tables (default: the name of root). train_files, test_files: use only so many files, at even distances.
    16-bit images are scaled to 8 bits, and so are floating-point images with pixels in [0, 1]. Files and class folders may be
    symbolic links. Only the pages of images in use are in memory.
    Raises InputError for other folder structures, links to other folders, a file in both train/ and test/, files that are no
    images, transparent pixels, and pixels without a known range.
    """
    given = Path(root).expanduser()
    root = _unpacked(given)
    if channels not in MODES or not isinstance(size, int) or size < 1:
        raise InputError(
            f"data.dataset.size={size} data.dataset.channels={channels}: a positive size and 1 or 3 channels are needed, "
            "as in data.dataset.size=32 data.dataset.channels=3"
        )
    train, test = _listings(root, "test")
    (train_used, train_labels), (test_used, test_labels) = _spread(train, train_files), _spread(test, test_files)
    files = train_used + test_used
    shape = (len(files), channels, size, size)
    folder = Path(cache_dir).expanduser() if cache_dir else cache_folder("images")
    pixels = _decoded(files, shape, folder / f"{_key(root, files, shape)}.uint8")
    cut = len(train_used)
    return ImageSet(
        name or (given.stem if given.is_file() else given.resolve().name),
        pixels[:cut],
        torch.tensor(train_labels),
        pixels[cut:],
        torch.tensor(test_labels),
        classes=tuple(train.classes),
        reduced=_reduction(train, train_used, test, test_used),
    )


def imagenet_folder(
    root: str | Path,
    size: int = 224,
    resize: int = 256,
    name: str | None = None,
    train_files: int | None = None,
    test_files: int | None = None,
) -> ImageSet:
    """RGB images of root/train/<class>/* and root/val/<class>/* as torchvision's ImageFolder reads them; val is the test part.

    The shorter side is resized to `resize` pixels, then the centre of `size` x `size` is cropped: torchvision's Resize and
    CenterCrop. Classes are numbered in sorted order. Single grey images are read as RGB, as by torchvision. Images are decoded
    each time that they are used. Other arguments as in `image_folder`.
    Raises InputError as `image_folder` does, for a size above `resize`, and where all images are grey.
    """
    root = Path(root).expanduser()
    if not 1 <= size <= resize:
        raise InputError(
            f"data.dataset.size={size} data.dataset.resize={resize}: {resize}x{resize} pixels hold no {size}x{size}; type "
            f"data.dataset.resize={max(size, 1) * 256 // 224}"
        )
    train, test = _listings(root, "val")
    (train_used, train_labels), (test_used, test_labels) = _spread(train, train_files), _spread(test, test_files)
    _refuse_grey(root, train_used, test_used)
    decode = partial(_decode, channels=3, size=size, resize=resize)

    def images(files: list[Path]) -> ImageFiles:
        return ImageFiles(files, decode, (3, size, size), _key(root, files, (resize, size)))

    return ImageSet(
        name or root.resolve().name,
        images(train_used),
        torch.tensor(train_labels),
        images(test_used),
        torch.tensor(test_labels),
        classes=tuple(train.classes),
        reduced=_reduction(train, train_used, test, test_used),
    )


def _reduction(train: Listing, train_used: Sequence[Path], test: Listing, test_used: Sequence[Path]) -> str | None:
    """What is left out of the set, for tables; None for the complete set."""
    reductions = [
        f"{len(used):,} of {len(listing.samples):,} {part} images"
        for part, used, listing in (("training", train_used, train), ("test", test_used, test))
        if len(used) < len(listing.samples)
    ]
    return "; ".join(reductions) or None


def _refuse_grey(root: Path, *parts: Sequence[Path]) -> None:
    """Raise InputError if a few files, spread over all, are grey images without exception. Only their headers are read."""
    files = [part[i] for part in parts for i in range(0, len(part), max(1, len(part) // LOOKED_AT))]
    for file in files:
        try:
            with Image.open(file) as opened:
                if Image.getmodebase(opened.mode) != "L":
                    return
        except PILLOW_ERRORS as error:
            raise InputError(f"{file} is no image that can be used ({error}): repair or remove it") from error
    raise InputError(
        f"data.root={root}: its images are grey, and networks for ImageNet take RGB; for a network that takes grey images "
        "rename val/ to test/ and type data=image_folder data.dataset.channels=1"
    )


def _unpacked(root: Path) -> Path:
    """The folder of images that `root` means: a folder itself; for a tar file, or a folder with one tar file, its contents.

    A tar file is unpacked once, into the user's cache folder, and again if it was changed. Raises InputError if it cannot
    be read or unpacked.
    """
    tars = sorted(root.glob("*.tar")) if root.is_dir() and not (root / "train").is_dir() else []
    if len(tars) == 1:
        root = tars[0]
    if not root.is_file():
        return root
    state = root.stat()
    key = json.dumps([str(root.resolve()), state.st_size, state.st_mtime_ns])
    folder = cache_folder("unpacked") / hashlib.sha256(key.encode()).hexdigest()[:32]
    if folder.is_dir():
        return folder
    log.info("unpacking %s, once", root)
    try:
        with write_atomically(folder) as temporary, tarfile.open(root) as archive:
            archive.extractall(temporary, filter="data")
    except (tarfile.TarError, OSError) as error:
        if not folder.is_dir():  # unless another process unpacked it meanwhile
            raise InputError(
                f"{root} cannot be unpacked to {folder.parent} ({error}); unpack it and type data.root=FOLDER"
            ) from error
    return folder


def _spread(listing: Listing, count: int | None) -> tuple[list[Path], list[int]]:
    """Files and labels: all of the listing, or `count` of them at even distances."""
    if count is not None and count < 1:
        raise InputError(f"data.dataset.train_files={count} (or test_files): a number of images, or null for all")
    total = len(listing.samples)
    count = total if count is None else min(count, total)
    chosen = [listing.samples[total * i // count] for i in range(count)]
    return [file for file, _ in chosen], [label for _, label in chosen]


def _listings(root: Path, test: str) -> tuple[Listing, Listing]:
    """The images of root/train and of root/<test>. Raises InputError for other classes in one of them, or shared files."""
    train_part, test_part = (_listing(root / part, test) for part in ("train", test))
    if train_part.classes != test_part.classes:
        only = sorted(set(train_part.classes) ^ set(test_part.classes))
        raise InputError(
            f"{root}: train/ and {test}/ must hold the same classes, only one of them has {', '.join(only[:5])}"
        )
    _refuse_shared(train_part, test_part)
    return train_part, test_part


def _listing(folder: Path, test: str) -> Listing:
    """The images of folder/<class> and of the folders below, without decoding. Raises InputError for links to folders there."""
    form = f"root/train/<class>/*.png and root/{test}/<class>/*.png are needed (or jpg, bmp, tif, ...)"
    if not folder.is_dir():
        raise InputError(f"no folder {folder}: {form}; type data.root=/path/to/root")
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    if not classes:
        raise InputError(f"{folder}: no class folder in it: {form}")
    samples: list[tuple[Path, int]] = []
    empty = []
    for label, name in enumerate(classes):
        before = len(samples)
        for place, below, files in sorted(os.walk(folder / name)):
            for link in (Path(place, inner) for inner in below):
                if link.is_symlink():  # it may lead to the test images, or back to where it is
                    raise InputError(f"{link} links to a folder: only class folders and files may be symbolic links")
            samples += [(Path(place, file), label) for file in sorted(files) if file.lower().endswith(IMG_EXTENSIONS)]
        if len(samples) == before:
            empty.append(name)
    if empty:
        raise InputError(f"{folder}: no image files for the classes {', '.join(empty[:5])}: {form}")
    return Listing(classes, samples)


def _refuse_shared(train: Listing, test: Listing) -> None:
    """Raise InputError for a file in both, through symbolic or hard links, and for a link that leads nowhere."""

    def identity(file: Path) -> tuple[int, int]:
        try:
            state = file.stat()
        except OSError as error:
            raise InputError(f"{file} cannot be read ({error.strerror}): repair or remove it") from error
        return state.st_dev, state.st_ino

    known = {identity(file): file for file, _ in test.samples}
    for file, _ in train.samples:
        same = known.get(identity(file))
        if same is not None:
            raise InputError(f"{same} and {file} are the same file: test images must not be trained on")


def _key(root: Path, files: Sequence[Path], shape: tuple[int, ...]) -> str:
    """Cache key of these files (path, size and modification time) decoded to this shape."""
    digest = hashlib.sha256(json.dumps([PIXELS_VERSION, str(root.resolve()), shape]).encode())
    for file in files:
        state = file.stat()
        digest.update(json.dumps([str(file.relative_to(root)), state.st_size, state.st_mtime_ns]).encode())
    return digest.hexdigest()[:32]


def _decoded(files: Sequence[Path], shape: tuple[int, ...], cache: Path) -> Tensor:
    """The pixels of `files`, uint8 `shape` = (N, C, size, size), mapped from the file `cache`, which is written if missing."""
    if not (cache.is_file() and cache.stat().st_size == np.prod(shape)):
        try:
            _write(cache, files, shape)
        except OSError as error:
            raise InputError(
                f"decoded images cannot be written to {cache.parent} ({error.strerror}): "
                "type +data.dataset.cache_dir=/path/with/space"
            ) from error
    # a private mapping: pages are read on access, and writing to the tensor does not change the file
    return torch.from_file(str(cache), shared=False, size=int(np.prod(shape)), dtype=torch.uint8).view(shape)


def _write(cache: Path, files: Sequence[Path], shape: tuple[int, ...]) -> None:
    """Decode `files` into `cache`."""
    with write_atomically(cache) as temporary, temporary.open("wb") as out:
        for image in _decode_all(files, *shape[1:3]):
            out.write(image.tobytes())


def _decode_all(files: Sequence[Path], channels: int, size: int) -> Iterator[np.ndarray]:
    """Images uint8 (C, size, size) in the order of `files`, decoded in threads (Pillow releases the GIL)."""
    log.info("decoding %s images to %dx%d, once", f"{len(files):,}", size, size)
    decode = partial(_decode, channels=channels, size=size)
    with ThreadPoolExecutor(os.cpu_count()) as pool, tqdm(total=len(files), unit="image") as bar:
        for start in range(0, len(files), BLOCK):
            for image in pool.map(decode, files[start : start + BLOCK]):
                yield image
                bar.update()


def _decode(file: Path, channels: int, size: int, resize: int | None = None) -> np.ndarray:
    """One image as uint8 (C, size, size): its centre when its shorter side has `resize` pixels, `size` if that is None.

    Raises InputError that names a file which cannot be decoded.
    """
    try:
        with Image.open(file) as opened:
            image = _eight_bits(opened).convert(MODES[channels])
    except PILLOW_ERRORS as error:
        raise InputError(f"{file} is no image that can be used ({error}): repair or remove it") from error
    image = functional.center_crop(functional.resize(image, resize or size), size)
    return np.array(image).reshape(size, size, channels).transpose(2, 0, 1)  # H W C -> C H W


def _eight_bits(image: Image.Image) -> Image.Image:
    """The image with 8 bits per channel and without transparency, which Pillow's `convert` would clip and drop.

    Raises ValueError for pixels whose range is not known, and for transparent pixels.
    """
    if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        raise ValueError("it has transparent pixels; magick IN -background white -flatten OUT draws it on white")
    tags = getattr(image, "tag_v2", {})  # of a TIFF
    if image.mode == "I" and image.format != "PPM":  # Pillow scales PGM files to 16 bits
        raise ValueError("its pixels are 32-bit integers without a known range; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        if tags.get(TIFF_PHOTOMETRIC) == 0:
            raise ValueError("0 is white in it, which is not supported with 16 bits; save it as PNG")
        largest = 2.0 ** tags.get(TIFF_BITS, (16,))[0] - 1
    elif image.mode == "F":
        largest = 1.0
    else:
        return image
    unit = np.asarray(image) / largest
    if not (unit.min() >= 0 and unit.max() <= 1):  # also NaN
        raise ValueError("its floating-point pixels are not in [0, 1]; scale them")
    return Image.fromarray(np.rint(255 * unit).astype(np.uint8))
