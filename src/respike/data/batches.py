"""Batches of an image set, cut out of whole tensors: no image is ever handled alone.

Shapes: N images, B of them in a batch, C channels, H x W pixels.
"""

import hashlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from respike.data.pixels import to_unit

Transform = Callable[[Tensor], Tensor]


def random_stream(*key: int | str) -> torch.Generator:
    """A generator whose numbers are a function of `key` alone: streams of different keys are independent."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))


def select(images: Tensor, chosen: Tensor) -> Tensor:
    """The `chosen` (B,) of uint8 images (N, C, H, W) as float32 (B, C, H, W) in [0, 1]."""
    return to_unit(torch.from_numpy(images.numpy()[chosen.numpy()]))  # indexed by NumPy for the reason given in to_unit


class ImageBatches(Dataset):
    """Item b is batch b of the images chosen: (x float32 (B, C, H, W) in [0, 1], y int64 (B,)).

    images: uint8 (N, C, H, W); labels: int64 (N,); index: int64 (M,), the images chosen, in order; size: B, the last
    batch may be smaller.
    """

    def __init__(self, images: Tensor, labels: Tensor, index: Tensor, size: int):
        self.images, self.labels, self.index, self.size = images, labels, index, size

    def __len__(self) -> int:
        return -(-len(self.index) // self.size)

    def __getitem__(self, b: int) -> tuple[Tensor, Tensor]:
        chosen = self.chosen(b)
        return select(self.images, chosen), self.labels[chosen]

    def chosen(self, b: int) -> Tensor:
        """Positions (B,) in `images` of the images of batch b. Raises IndexError past the last batch."""
        if not 0 <= b < len(self):
            raise IndexError(f"batch {b} of {len(self)}")
        return self.index[b * self.size : (b + 1) * self.size]

    def loader(self) -> DataLoader:
        """The batches in order, for Lightning."""
        # a generator of its own: DataLoader draws a number from the global one at each epoch, for workers not had here
        return DataLoader(self, batch_size=None, generator=torch.Generator())


class ShuffledBatches(ImageBatches):
    """`ImageBatches` in another order at each epoch, optionally transformed.

    Order and transform are functions of (seed, epoch, batch): a resumed training sees what the uninterrupted one saw.
    transform: float32 (B, C, H, W) -> the same form, called once for the whole batch; it may draw from torch's
    global generator, which is seeded for the call and left as it was. share: (r, R), this is rank r of R, which gets
    every R-th image of a batch; shares are made equal, where R does not divide B, by giving the first images twice.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        index: Tensor,
        size: int,
        seed: int,
        transform: Transform | None,
        share: tuple[int, int] = (0, 1),
    ):
        super().__init__(images, labels, index, size)
        self.members, self.seed, self.transform, self.share = index, seed, transform, share
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Put the images into the order of this epoch."""
        self.epoch = epoch
        stream = random_stream("order", self.seed, epoch)
        self.index = self.members[torch.randperm(len(self.members), generator=stream)]

    def __getitem__(self, b: int) -> tuple[Tensor, Tensor]:
        chosen, (rank, ranks) = self.chosen(b), self.share
        mine = torch.arange(rank, -(-len(chosen) // ranks) * ranks, ranks) % len(chosen)
        if self.transform is None:
            return select(self.images, chosen[mine]), self.labels[chosen[mine]]
        x, y = super().__getitem__(b)  # transformed whole: an image gets what it would get on one device
        with torch.random.fork_rng(devices=()):
            torch.default_generator.set_state(random_stream("transform", self.seed, self.epoch, b).get_state())
            return self.transform(x)[mine], y[mine]

    def loader(self) -> DataLoader:
        """The batches in the order of the epoch that Lightning announces."""
        return DataLoader(self, batch_size=None, sampler=EpochSampler(self), generator=torch.Generator())


class EpochSampler(Sampler[int]):
    """Visits every batch once, and hands the epoch on: Lightning announces it to samplers only.

    The order lies in the batches rather than here so that Lightning may put a sampler of its own in place of this one
    (overfit_batches).
    """

    def __init__(self, batches: ShuffledBatches):
        self.batches = batches

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of each epoch, also of a resumed one."""
        self.batches.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.batches)))
