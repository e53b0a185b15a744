"""Input coding: images to random spikes or to constant currents.

T steps, B images, P pixels (any image shape). Random spikes are a function of (seed, image index, pixel, step)
alone, drawn from a counter-based hash: an image gets the same spikes in any batch and on any device.
"""

import hashlib
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from respike.errors import InputError

LEVELS = 1 << 24  # a uniform draw takes one of 2^24 equally likely values


def _signed(word: int) -> int:
    """The int32 whose bits are those of the unsigned 32-bit word."""
    return word - (1 << 32) if word >= 1 << 31 else word


def hash32(x: Tensor) -> Tensor:
    """lowbias32 (C. Wellons, hash-prospector): a bijective mix of 32-bit words. int32 of any shape, in place."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x ^= (x >> shift) & ((1 << (32 - shift)) - 1)  # int32 shifts are arithmetic; the mask makes them logical
        x *= _signed(factor)
    x ^= (x >> 16) & 0xFFFF
    return x


def image_keys(index: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Two 32-bit keys per image from its index (B,) and the seed: int32 (B,) each."""
    low = _signed((seed * 0x9E3779B1) & 0xFFFFFFFF)
    high = _signed(((seed >> 32) * 0x85EBCA6B + 0x27D4EB2F) & 0xFFFFFFFF)
    words = index.to(torch.int32)
    first = hash32(words ^ low)
    return first, hash32(hash32(first + high) ^ words)


def uniform32(index: Tensor, steps: Tensor, pixels: int, seed: int) -> Tensor:
    """Uniform 32-bit words, int32 (T, B, P), for images `index` (B,) at steps `steps` (T,)."""
    first, second = image_keys(index, seed)
    counter = steps.to(torch.int32)[:, None] * pixels + torch.arange(pixels, dtype=torch.int32, device=index.device)
    mixed = hash32(counter[:, None, :] ^ first[:, None])  # (T, B, P)
    mixed += second[:, None]
    return hash32(mixed)


def uniform24(index: Tensor, steps: Tensor, pixels: int, seed: int) -> Tensor:
    """Uniform integers in [0, 2^24), int32 (T, B, P), for images `index` (B,) at steps `steps` (T,)."""
    return (uniform32(index, steps, pixels, seed) >> 8) & (LEVELS - 1)


def stream_seed(*key: int | str) -> int:
    """A 64-bit seed from a key, such as (seed, trial, layer): draws with different keys are independent."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "little")


def normal(index: Tensor, count: int, seed: int) -> Tensor:
    """Standard normal deviates, float64 (B, count): a function of (seed, image index, position) alone.

    Each is the normal quantile of a uniform draw of 52 bits, so that none lies beyond 8.3 standard deviations.
    """
    high, low = uniform32(index, torch.arange(2, device=index.device), count, seed)  # (B, count) each
    draws = (high >> 6 & (1 << 26) - 1).double() * (1 << 26) + (low >> 6 & (1 << 26) - 1)
    return torch.special.ndtri((draws + 0.5) / (1 << 52))


def spike_limits(probability: Tensor) -> Tensor:
    """The limit below which a draw of `uniform24` is a spike: int32 in [0, 2^24], for a probability in [0, 1]."""
    return (probability.double().clamp(0, 1) * LEVELS).round().to(torch.int32)


def bernoulli_spikes(probability: Tensor, index: Tensor, steps: Tensor, seed: int) -> Tensor:
    """Independent spikes of the given probability (B, ...P) at each step: bool (T, B, ...P)."""
    limits = spike_limits(probability).flatten(1)  # (B, P)
    draws = uniform24(index, steps, limits.shape[1], seed)  # (T, B, P)
    return (draws < limits).unflatten(2, probability.shape[1:])


class Encoder(ABC):
    """Base class of input coding. analog: the input is a current; otherwise it is spikes."""

    analog: ClassVar[bool]

    @property
    def largest_current(self) -> float | None:
        """The input current of pixel 1, None for spikes."""
        return None

    @abstractmethod
    def __call__(self, images: Tensor, index: Tensor, steps: Tensor, dt: float, seed: int) -> Tensor:
        """Images (B, ...P) with numbers `index` (B,) -> spikes (T, B, ...P) at steps (T,), or currents (1, B, ...P)."""


class SpikeEncoder(Encoder):
    """Independent random spikes, with a probability for each pixel."""

    analog = False

    @abstractmethod
    def largest_probability(self, dt: float) -> float:
        """Spike probability of pixel 1 in one step of dt seconds; above 1 the brightest inputs saturate."""

    @abstractmethod
    def probability(self, images: Tensor, dt: float) -> Tensor:
        """Probability of a spike in one step: float64, in the images' shape; above 1 means always."""

    def __call__(self, images: Tensor, index: Tensor, steps: Tensor, dt: float, seed: int) -> Tensor:
        """Images in [0, 1] (B, ...P) -> spikes, bool (T, B, ...P)."""
        return bernoulli_spikes(self.probability(images, dt), index, steps, seed)


@dataclass(frozen=True)
class Rate(SpikeEncoder):
    """Random spikes at a rate proportional to the pixel, `max_rate` Hz for pixel 1 (Diehl et al. 2015)."""

    max_rate: float = 1000.0

    def __post_init__(self) -> None:
        if not 0 < self.max_rate < math.inf:
            raise InputError(
                f"encode.max_rate={self.max_rate}: a rate in Hz above 0 is needed, as in encode.max_rate=1000"
            )

    def largest_probability(self, dt: float) -> float:
        """Spike probability of pixel 1 in one step of dt seconds; above 1 the brightest inputs saturate."""
        return self.max_rate * dt

    def probability(self, images: Tensor, dt: float) -> Tensor:
        """Probability of a spike in one step: float64, in the images' shape; above 1 means always."""
        return images.double() * self.largest_probability(dt)


@dataclass(frozen=True)
class Threshold(SpikeEncoder):
    """A pixel spikes when spike_threshold * rand < pixel (the MathWorks example): rate 1 / (spike_threshold * dt)."""

    spike_threshold: float = 2.5

    def __post_init__(self) -> None:
        if not 0 < self.spike_threshold < math.inf:
            raise InputError(
                f"encode.spike_threshold={self.spike_threshold}: must be above 0, as in encode.spike_threshold=2.5"
            )

    def largest_probability(self, dt: float) -> float:
        """Spike probability of pixel 1 in one step."""
        return 1 / self.spike_threshold

    def probability(self, images: Tensor, dt: float) -> Tensor:
        """Probability of a spike in one step: float64, in the images' shape; above 1 means always."""
        # divided by a tensor: a GPU would multiply by the inverse of a number, which rounds differently
        return images.double() / torch.full((), self.spike_threshold, dtype=torch.float64, device=images.device)


@dataclass(frozen=True)
class Current(Encoder):
    """The pixel times `gain` is a constant input current at every step (Rueckauer et al. 2017): no randomness."""

    gain: float = 1.0
    analog = True

    def __post_init__(self) -> None:
        if not 0 < self.gain < math.inf:
            raise InputError(f"encode.gain={self.gain}: must be above 0, as in encode.gain=1")

    @property
    def largest_current(self) -> float:
        """The input current of pixel 1."""
        return self.gain

    def __call__(self, images: Tensor, index: Tensor, steps: Tensor, dt: float, seed: int) -> Tensor:
        """Images (B, ...P) -> currents (1, B, ...P), constant over time."""
        return (images * self.gain).unsqueeze(0)
