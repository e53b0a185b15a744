"""The input of a rate-coded network: pixels, checked and encoded. T steps, B images, P pixels of any shape."""

import math

import torch
from torch import Tensor

from respike.data.pixels import to_unit
from respike.errors import InputError
from respike.neurons.encode import SpikeEncoder, spike_limits
from respike.simulate.rate.program import Program
from respike.simulate.rate.settings import Settings

PART = 1000  # images at a time


def encoded_input(program: Program, settings: Settings, images: Tensor, index: Tensor, steps: Tensor) -> Tensor:
    """Spikes or currents of the given steps (T',) for images (B, ...P), float in [0, 1] or uint8: (T' or 1, B, ...P)."""
    images = checked_pixels(images.to(program.device), settings)
    index, steps = index.to(images.device), steps.to(images.device)
    return program.input_values(settings.encode(images, index, steps, settings.dt, settings.seed))


def largest_current(images: Tensor, settings: Settings, index: Tensor | None = None) -> float | None:
    """The largest magnitude of the input currents of images (B, ...P), and of pixel 1; None for input spikes.

    index: numbers of the images (B,), by default 0, 1, ...

    Raises InputError for currents that are not finite.
    """
    if not settings.encode.analog:
        return None
    largest = settings.encode.largest_current or 0.0
    index = torch.arange(len(images)) if index is None else index
    for part, numbers in zip(images.split(PART), index.to(images.device).split(PART), strict=True):
        steps = torch.tensor([0], device=part.device)
        currents = settings.encode(to_unit(part), numbers, steps, settings.dt, settings.seed)
        peak = float(currents.abs().max())
        if not math.isfinite(peak):
            raise InputError(f"an input current is {peak}: images must hold finite pixels")
        largest = max(largest, peak)
    return largest


def input_limits(images: Tensor, settings: Settings) -> Tensor:
    """An input spikes where its uniform draw lies below this limit: int32 (B, P), as in `spike_limits`."""
    assert isinstance(settings.encode, SpikeEncoder)  # an input of currents has no limits
    probability = settings.encode.probability(checked_pixels(images, settings), settings.dt)
    return spike_limits(probability).flatten(1).contiguous()


def checked_pixels(images: Tensor, settings: Settings) -> Tensor:
    """Images as floats, uint8 ones divided by 255. Raises InputError for pixels that cannot be coded as spikes."""
    images = to_unit(images)
    if not settings.encode.analog and not 0 <= float(images.min()) <= float(images.max()) <= 1:
        raise InputError(
            f"images between {float(images.min()):.3g} and {float(images.max()):.3g} cannot be coded as spikes; "
            "pixels must lie in [0, 1] (fold a mean and a deviation into the first layer, or use encode=current)"
        )
    return images
