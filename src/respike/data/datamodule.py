"""The Lightning data module: splits an image set and serves it in batches.

Batches are cut out of whole tensors: one indexing operation and one division per batch, no worker processes.
Shapes: N images of the set, M of a split, B of a batch, C channels, H x W pixels.
"""

import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Literal

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from respike.data.datasets import Images, ImageSet
from respike.data.pixels import to_unit
from respike.data.random_stream import random_stream
from respike.errors import InputError
from respike.system.distributed import rank, shard_range, world_size

Split = Literal["train", "val", "test"]
Transform = Callable[[Tensor], Tensor]


class ImageDataModule(LightningDataModule):
    """Serves an `ImageSet` as batches (x float32 (B, C, H, W) in [0, 1], y int64 (B,)).

    dataset: root -> ImageSet, called when the images are first needed. batch_size: B in training; eval_batch_size: B in
    validation and test. val_size: number of training images held out for validation. train_size: use only this many of the
    other training images. test_size: use only the first so many test images, or evenly spread ones where they are sorted by
    class. train_transform: augmentation of a training batch, float32 (B, C, H, W) -> the same shape. seed: of the
    validation split, the reduction, the order and the augmentation. mean, std: one number per channel, by which the
    network's first layer standardizes the images (`respike.networks.standardize.standardized`), or None; the images
    themselves stay in [0, 1].
    Raises InputError for impossible sizes, here or when the images are first needed.
    """

    def __init__(
        self,
        dataset: Callable[..., ImageSet],
        root: str,
        batch_size: int,
        eval_batch_size: int = 200,
        val_size: int = 0,
        train_size: int | None = None,
        test_size: int | None = None,
        train_transform: Transform | None = None,
        seed: int = 0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ):
        super().__init__()
        _check("batch_size", batch_size, least=1)
        _check("eval_batch_size", eval_batch_size, least=1)
        _check("val_size", val_size, least=0)
        for name, size in (("train_size", train_size), ("test_size", test_size)):
            if size is not None:
                _check(name, size, least=1)
        self.dataset, self.root = dataset, root
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.val_size, self.train_size, self.test_size = val_size, train_size, test_size
        self.train_transform, self.seed = train_transform, seed
        if (mean is None) != (std is None) or len(mean or ()) != len(std or ()) or min(std or [1]) <= 0:
            raise InputError(
                f"{_standardization(mean, std)}: one number per channel and every std above 0 are needed, or null and null; "
                "type data.mean=[0.5,0.5,0.5] data.std=[0.5,0.5,0.5] for RGB images, [0.5] for grey ones"
            )
        self.mean, self.std = mean, std

    @cached_property
    def images(self) -> ImageSet:
        """The complete image set, before the split and any reduction."""
        return self.dataset(root=self.root)

    @cached_property
    def index(self) -> dict[Split, Tensor]:
        """int64 (M,) for each split: positions in the training images (train, val) or in the test images (test).

        Training and validation images are in a random order that depends on the seed; test images keep their order.
        """
        channels = self.input_shape[0]
        if self.mean is not None and len(self.mean) != channels:
            raise InputError(
                f"{_standardization(self.mean, self.std)}: {len(self.mean)} channels, but {self.images.name} has "
                f"{channels}; type {channels} in each list, or data.mean=null data.std=null"
            )
        published = len(self.images.train_labels)
        available = published - self.val_size
        if available < 1:
            raise InputError(
                f"data.val_size={self.val_size}: {self.images.name} has {published} training images, "
                f"type at most data.val_size={published - 1}"
            )
        if self.train_size is not None:
            _check("train_size", self.train_size, least=1, most=available)
        if self.test_size is not None:
            _check("test_size", self.test_size, least=1, most=len(self.images.test_labels))
        shuffled = torch.randperm(published, generator=random_stream("split", self.seed))
        return {
            "train": shuffled[:available][: self.train_size],
            "val": shuffled[available:],
            "test": first_or_spread(self.images.test_labels, self.test_size),
        }

    def prepare_data(self) -> None:
        """Load (and download) the images. Lightning calls this in one process per machine before the others load them."""
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        """Load the images and split them; a second call does nothing."""
        _ = self.index
        # Lightning recommends worker processes, which would only copy what is indexed in memory here, and warns about
        # an empty list of validation loaders
        for message in (r".*_dataloader' does not have many workers", "Total length of `list` across ranks is zero"):
            warnings.filterwarnings("ignore", message=message)

    def train_dataloader(self) -> DataLoader:
        """Training batches in an order that depends on (seed, epoch). In a distributed job: this rank's part of each."""
        return ShuffledBatches(
            self.images.train_images,
            self.images.train_labels,
            self.index["train"],
            self.batch_size,
            self.seed,
            self.train_transform,
            (rank(), world_size()),
        ).loader()

    def val_dataloader(self) -> DataLoader | list:
        """Validation batches; an empty list, which Lightning accepts, if val_size is 0."""
        return self._in_order("val", self.eval_batch_size).loader() if self.val_size else []

    def test_dataloader(self) -> DataLoader:
        """Test batches in the order of the test set."""
        return self._in_order("test", self.eval_batch_size).loader()

    def batches(
        self, split: Split, size: int, shared: bool = False, first: int | None = None, draw: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """(images float32 (B, C, H, W) in [0, 1], labels int64 (B,), index int64 (B,)) of a split, in its order.

        index: positions in the published training or test set, so that the number of an image does not depend on the
        reduction. size: B. shared: in a distributed job each rank gets a part of the batches; the parts in rank order
        are the batches of a single process. first: only the first so many images. draw: the split in a random order, which
        depends on this seed alone, in place of its own. train_transform is not applied. Raises InputError for an unknown split.
        """
        _check("batch_size", size, least=1)
        batches = self._in_order(split, size, first, draw)
        numbers = shard_range(len(batches)) if shared else range(len(batches))
        return ((*batches[b], batches.positions(b)) for b in numbers)

    def labels(self, split: Split) -> Tensor:
        """int64 (M,), in the order of `batches`. Raises InputError for an unknown split."""
        batches = self._in_order(split, 1)
        return batches.labels[batches.index]

    def _in_order(self, split: Split, size: int, first: int | None = None, draw: int | None = None) -> "ImageBatches":
        if split not in self.index:
            raise InputError(f"split {split!r}: one of {', '.join(self.index)} is needed")
        part = "test" if split == "test" else "train"
        images, labels = getattr(self.images, f"{part}_images"), getattr(self.images, f"{part}_labels")
        index = self.index[split]
        if draw is not None:
            index = index.sort().values[torch.randperm(len(index), generator=random_stream("draw", draw))]
        return ImageBatches(images, labels, index[:first], size)

    def fingerprint(self, split: Split) -> str:
        """Hash of a split's images and labels in their order."""
        content = hashlib.sha256(self.images.sha256.encode())
        content.update(split.encode() + self.index[split].numpy().tobytes())
        return content.hexdigest()

    def reductions(self) -> list[str]:
        """Why this is not the complete data set, for tables; [] if it is. Validation images count as training images."""
        reasons = [self.images.reduced] if self.images.reduced else []
        used, published = len(self.index["train"]), len(self.images.train_labels)
        if used < published - self.val_size:
            reasons.append(f"{used:,} of {published:,} training images")
        used, published = len(self.index["test"]), len(self.images.test_labels)
        if used < published:
            reasons.append(f"{used:,} of {published:,} test images")
        return reasons

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.images.train_images.shape[1:]
        return channels, height, width

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.images.classes)


def first_or_spread(labels: Tensor, size: int | None) -> Tensor:
    """Positions of the first `size` labels (N,); of sorted ones, as folders of images have, evenly spread positions."""
    positions = torch.arange(len(labels))
    if size is None or size >= len(labels) or bool((labels.diff() < 0).any()):
        return positions[:size]
    return (2 * positions[:size] + 1) * len(labels) // (2 * size)


class ImageBatches(Dataset):
    """Item b is batch b: (x float32 (B, C, H, W) in [0, 1], y int64 (B,)).

    images: uint8 (N, C, H, W), or files of such images. labels: int64 (N,). index: int64 (M,), positions of the images to
    serve, in order. size: B; the last batch may be smaller.
    """

    def __init__(self, images: Images, labels: Tensor, index: Tensor, size: int):
        self.images, self.labels, self.index, self.size = images, labels, index, size

    def __len__(self) -> int:
        return -(-len(self.index) // self.size)

    def __getitem__(self, b: int) -> tuple[Tensor, Tensor]:
        positions = self.positions(b)
        return _float_images(self.images, positions), self.labels[positions]

    def positions(self, b: int) -> Tensor:
        """Positions (B,) in `images` of the images of batch b. Raises IndexError past the last batch."""
        if not 0 <= b < len(self):
            raise IndexError(f"batch {b} of {len(self)}")
        return self.index[b * self.size : (b + 1) * self.size]

    def loader(self) -> DataLoader:
        """A DataLoader that serves the batches in order."""
        # a separate generator: at each epoch DataLoader draws a seed for workers, by default from the global generator
        return DataLoader(self, batch_size=None, generator=torch.Generator())


class ShuffledBatches(ImageBatches):
    """`ImageBatches` in another order at each epoch, optionally augmented.

    Order and augmentation depend on (seed, epoch, batch) alone, so that a resumed training sees the same batches.
    transform: float32 (B, C, H, W) -> the same shape, called once per batch. It may use torch's global generator, which is
    seeded for the call and restored afterwards. share: (rank, number of ranks); rank r of R gets every R-th image of a
    batch. If R does not divide B, the first images are used twice, so that all ranks get equally many.
    """

    def __init__(
        self,
        images: Images,
        labels: Tensor,
        index: Tensor,
        size: int,
        seed: int,
        transform: Transform | None,
        share: tuple[int, int] = (0, 1),
    ):
        super().__init__(images, labels, index, size)
        self.unshuffled, self.seed, self.transform, self.share = index, seed, transform, share
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Shuffle the images for this epoch."""
        self.epoch = epoch
        stream = random_stream("order", self.seed, epoch)
        self.index = self.unshuffled[torch.randperm(len(self.unshuffled), generator=stream)]

    def __getitem__(self, b: int) -> tuple[Tensor, Tensor]:
        positions, (rank, ranks) = self.positions(b), self.share
        padded = -(-len(positions) // ranks) * ranks
        mine = torch.arange(rank, padded, ranks) % len(positions)
        if self.transform is None:
            return _float_images(self.images, positions[mine]), self.labels[positions[mine]]
        x, y = super().__getitem__(b)  # the whole batch is transformed: the same result for any number of ranks
        with torch.random.fork_rng(devices=()):
            torch.default_generator.set_state(random_stream("transform", self.seed, self.epoch, b).get_state())
            return self.transform(x)[mine], y[mine]

    def loader(self) -> DataLoader:
        """A DataLoader that serves the batches in the order of the epoch that Lightning announces to its sampler."""
        return DataLoader(self, batch_size=None, sampler=EpochSampler(self), generator=torch.Generator())


class EpochSampler(Sampler[int]):
    """Visits every batch in order and passes the epoch on to the batches: Lightning announces it to samplers only.

    The batches, not this sampler, are shuffled, because Lightning may replace the sampler (overfit_batches).
    """

    def __init__(self, batches: ShuffledBatches):
        self.batches = batches

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of each epoch."""
        self.batches.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.batches)))


def _float_images(images: Images, positions: Tensor) -> Tensor:
    """The images (B,) of uint8 images (N, C, H, W) as float32 (B, C, H, W) in [0, 1]."""
    if not isinstance(images, Tensor):
        return to_unit(images[positions])
    return to_unit(torch.from_numpy(images.numpy()[positions.numpy()]))  # NumPy for the reason given in to_unit


def _standardization(mean: Sequence[float] | None, std: Sequence[float] | None) -> str:
    """The two settings as they are typed."""
    given = (("mean", mean), ("std", std))
    return " ".join(f"data.{name}={'null' if value is None else list(value)}" for name, value in given).replace(
        ", ", ","
    )


def _check(name: str, value: int, least: int, most: int | None = None) -> None:
    """Raise InputError unless `value` is a whole number from `least` to `most`."""
    if isinstance(value, int) and value >= least and (most is None or value <= most):
        return
    allowed = f"a whole number of at least {least}" if most is None else f"{least} to {most}"
    raise InputError(f"data.{name}={value}: {allowed} is needed, as in data.{name}={most or 100}")
