"""The Lightning data module: an image set, split, reduced and served in batches."""

import hashlib
import warnings
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Literal

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from respike.data.batches import ImageBatches, ShuffledBatches, Transform, random_stream
from respike.data.image_set import ImageSet
from respike.errors import InputError
from respike.system.distributed import rank, shard_range, world_size

Split = Literal["train", "val", "test"]


class ImageDataModule(LightningDataModule):
    """Serves an `ImageSet` as batches (x float32 (B, C, H, W) in [0, 1], y int64 (B,)).

    dataset: called once with root=`root`, when first needed, makes the image set; batch_size, eval_batch_size: B in
    training, and in validation and test; val_size: how many training images are kept apart for validation;
    train_size: use only so many of the others; test_size: use only the first so many test images; train_transform:
    float32 (B, C, H, W) -> the same form, on each training batch; seed: of the validation split, the reduction, the
    order and the transform.
    Raises InputError, here or when the set is first needed, for sizes that cannot be.
    """

    def __init__(
        self,
        dataset: Callable[..., ImageSet],
        root: str,
        batch_size: int,
        eval_batch_size: int = 1000,
        val_size: int = 0,
        train_size: int | None = None,
        test_size: int | None = None,
        train_transform: Transform | None = None,
        seed: int = 0,
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

    @cached_property
    def images(self) -> ImageSet:
        """The whole set, before any split or reduction."""
        return self.dataset(root=self.root)

    @cached_property
    def index(self) -> dict[Split, Tensor]:
        """int64 (M,) for each split: positions in the training set (train, val) or in the test set (test).

        The training part and the validation part are mixed, each always in the same order; test keeps its order.
        """
        published, available = len(self.images.train_labels), len(self.images.train_labels) - self.val_size
        if available < 1:
            raise InputError(
                f"data.val_size={self.val_size}: {self.images.name} has {published} training images, "
                f"type at most data.val_size={published - 1}"
            )
        if self.train_size is not None:
            _check("train_size", self.train_size, least=1, most=available)
        if self.test_size is not None:
            _check("test_size", self.test_size, least=1, most=len(self.images.test_labels))
        mixed = torch.randperm(published, generator=random_stream("split", self.seed))
        return {
            "train": mixed[:available][: self.train_size],
            "val": mixed[available:],
            "test": torch.arange(len(self.images.test_labels))[: self.test_size],
        }

    def prepare_data(self) -> None:
        """Lightning calls this in one process per machine before the others look: a download happens here."""
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        """Load the set and split it; calling it again does nothing."""
        _ = self.index
        # Lightning advises worker processes (they would only copy what is cut out of memory here) and doubts that an
        # empty list of validation loaders is meant
        for advice in (r".*_dataloader' does not have many workers", "Total length of `list` across ranks is zero"):
            warnings.filterwarnings("ignore", message=advice)

    def train_dataloader(self) -> DataLoader:
        """Training batches, shuffled by (seed, epoch). Of several ranks each gets its share of every batch."""
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
        """Validation batches; none, in the form Lightning accepts, where val_size is 0."""
        return self._in_order("val", self.eval_batch_size).loader() if self.val_size else []

    def test_dataloader(self) -> DataLoader:
        """Test batches in the order of the test set."""
        return self._in_order("test", self.eval_batch_size).loader()

    def batches(
        self, split: Split, size: int, shared: bool = False, first: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """(images float32 (B, C, H, W) in [0, 1], labels int64 (B,), index int64 (B,)) of a split, never shuffled.

        index: positions in the whole published training or test set, so that an image keeps its number however the
        set is reduced. size: B. shared: of several ranks each gets some of the batches, in rank order all of them, cut
        as for one. first: only so many images. No train_transform is applied. Raises InputError for an unknown split.
        """
        _check("batch_size", size, least=1)
        parts = self._in_order(split, size, first)
        mine = shard_range(len(parts)) if shared else range(len(parts))
        return ((*parts[b], parts.chosen(b)) for b in mine)

    def labels(self, split: Split) -> Tensor:
        """int64 (M,), in the order of `batches`. Raises InputError for an unknown split."""
        parts = self._in_order(split, 1)
        return parts.labels[parts.index]

    def _in_order(self, split: Split, size: int, first: int | None = None) -> ImageBatches:
        if split not in self.index:
            raise InputError(f"split {split!r}: one of {', '.join(self.index)} is needed")
        part = "test" if split == "test" else "train"
        images, labels = getattr(self.images, f"{part}_images"), getattr(self.images, f"{part}_labels")
        return ImageBatches(images, labels, self.index[split][:first], size)

    def fingerprint(self, split: Split) -> str:
        """Tells one split's images and labels, in their order, from any other's."""
        content = hashlib.sha256(self.images.sha256.encode())
        content.update(split.encode() + self.index[split].numpy().tobytes())
        return content.hexdigest()

    def reductions(self) -> list[str]:
        """Why this is not the full data set, in words for tables; empty where it is. Validation images count as had."""
        reasons = [self.images.reduced] if self.images.reduced else []
        used, had = len(self.index["train"]), len(self.images.train_labels)
        if used < had - self.val_size:
            reasons.append(f"{used:,} of {had:,} training images")
        used, had = len(self.index["test"]), len(self.images.test_labels)
        if used < had:
            reasons.append(f"{used:,} of {had:,} test images")
        return reasons

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return tuple(self.images.train_images.shape[1:])

    @property
    def num_classes(self) -> int:
        """How many classes the set has."""
        return len(self.images.classes)


def _check(name: str, value: int, least: int, most: int | None = None) -> None:
    """Raises InputError unless `value` is a whole number from `least` to `most`."""
    if isinstance(value, int) and value >= least and (most is None or value <= most):
        return
    allowed = f"a whole number of at least {least}" if most is None else f"{least} to {most}"
    raise InputError(f"data.{name}={value}: {allowed} is needed, as in data.{name}={most or 100}")
