"""Pictures of the data: sample images, and one image beside the spikes it becomes. C channels, H x W pixels."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from respike.figures.curves import DPI, INK

COLUMNS = 6


def samples(images: Tensor, names: Sequence[str]) -> Figure:
    """Images (N, C, H, W) in [0, 1] in rows of six, each under its name. Raises ValueError without any."""
    if not len(images):
        raise ValueError("no image to draw; expected at least one")
    rows = -(-len(images) // COLUMNS)
    figure = Figure(figsize=(8, 1.6 * rows), dpi=DPI, layout="constrained")
    panels = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axes, image, name in zip(panels, images, names, strict=False):
        _show(axes, image, name)
    for axes in panels[len(images) :]:
        axes.set_axis_off()
    return figure


def spike_images(image: Tensor, spikes: Tensor, name: str, steps: Sequence[int]) -> Figure:
    """An image (C, H, W) in [0, 1] beside its input spikes at some steps (counted from 1) and their mean over all.

    spikes: (T, C, H, W), 0 or 1. The mean is drawn with its brightest pixel white, however rare its spikes.
    """
    mean = spikes.double().mean(0)
    figure = Figure(figsize=(2 * (len(steps) + 2), 2.3), dpi=DPI, layout="constrained")
    first, *between, last = figure.subplots(1, len(steps) + 2)
    _show(first, image, name)
    for axes, step in zip(between, steps, strict=True):
        _show(axes, spikes[step - 1], f"spikes, step {step}")
    _show(last, mean, f"mean of {len(spikes)} steps", max(float(mean.max()), 1e-9))
    return figure


def _show(axes: Axes, image: Tensor, title: str, brightest: float = 1.0) -> None:
    """A grey or RGB image in [0, 1], white at `brightest`; other numbers of channels as their mean."""
    pixels = np.moveaxis(image.double().numpy(), 0, 2)
    pixels = pixels if pixels.shape[2] == 3 else pixels.mean(2)
    axes.imshow((pixels / brightest).clip(0, 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_title(title, fontsize=10, color=INK)
    axes.set_axis_off()
