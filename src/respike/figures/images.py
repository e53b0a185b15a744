"""Test images: samples of the data set; one image with its input spikes and its output spikes. C channels, H x W pixels."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from respike.figures.style import DPI, FAINT, INK, PALETTE, plain_axes
from respike.simulate.record import predict

COLUMNS = 6
HEIGHTS = 24  # at which the names of lines can stand side by side
FEW_NAMES, MOST_NAMED = 3, 12  # names of lines that end at one height; classes of the panel below that are all named


def samples(images: Tensor, names: Sequence[str]) -> Figure:
    """Images (N, C, H, W) in [0, 1], six per line, each with its name. Raises ValueError without images."""
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
    """An image (C, H, W) in [0, 1], its input spikes at some steps (counted from 1), and their mean over all steps.

    spikes: (T, C, H, W), 0 or 1. In the mean, the pixel with most spikes is white.
    """
    mean = spikes.double().mean(0)
    figure = Figure(figsize=(1.7 * (len(steps) + 2), 2.05), dpi=DPI, layout="constrained")
    first, *between, last = figure.subplots(1, len(steps) + 2)
    _show(first, image, name)
    for axes, step in zip(between, steps, strict=True):
        _show(axes, spikes[step - 1], f"spikes, step {step}")
    _show(last, mean, f"mean of {len(spikes)} steps", max(float(mean.max()), 1e-9))
    return figure


def _show(axes: Axes, image: Tensor, title: str, white: float = 1.0) -> None:
    """A grey or RGB image, whose value `white` is drawn white; other numbers of channels are averaged."""
    pixels = np.moveaxis(image.double().numpy(), 0, 2)
    pixels = pixels if pixels.shape[2] == 3 else pixels.mean(2)
    axes.imshow((pixels / white).clip(0, 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_title(title, fontsize=10, color=INK)
    axes.set_axis_off()


def output_counts(counts: Tensor, label: int, classes: Sequence[str], name: str, before: int = 0) -> Figure:
    """Cumulative spikes of each output neuron over the steps, and below them the predicted class after each step.

    counts: integers (T, C); or, of an output that is read by its current, the mean current up to each step, floating point.
    before: number of steps before the first of these.
    The line of the true class is blue; if another class is predicted in the end, its line is orange.
    """
    steps, predicted, analog = (
        range(before + 1, before + len(counts) + 1),
        predict(counts).tolist(),
        counts.is_floating_point(),
    )
    figure = Figure(figsize=(7, 4.6), dpi=DPI, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1.5])
    colours = {predicted[-1]: PALETTE[1], label: PALETTE[0]}  # the true class comes second: it is blue if both are one
    others = [c for c in range(len(classes)) if c not in colours]
    shown = sorted({*predicted, label})
    for c in others:
        above.plot(steps, counts[:, c], color=FAINT, linewidth=1, label=f"_{classes[c]}")
    for c in sorted(colours):
        role = "true class" if c == label else "predicted in the end"
        above.plot(steps, counts[:, c], color=colours[c], linewidth=2.2, label=f"{classes[c]}, {role}")
    finite = counts[counts.isfinite()]
    unit = (float(finite.max() - finite.min()) / HEIGHTS or 1) if analog and len(finite) else 1
    ends = {classes[c]: round(end / unit) * unit for c in others if math.isfinite(end := float(counts[-1, c]))}
    _name_lines(above, {name: end for name, end in ends.items() if end or analog}, steps[-1])
    above.plot([], [], color=FAINT, linewidth=1, label="other classes")
    above.legend(frameon=False, labelcolor=INK, loc="best" if analog else "upper left")
    above.set_ylabel("output current (mean so far)" if analog else "output spikes (cumulative)", color=INK)
    above.set_title(name, loc="left", fontsize=10, color=INK)
    for correct, colour in ((True, PALETTE[0]), (False, PALETTE[1])):
        where = [i for i, predicted_class in enumerate(predicted) if (predicted_class == label) == correct]
        below.plot(
            [steps[i] for i in where], [shown.index(predicted[i]) for i in where], "s", markersize=4, color=colour
        )
    named = [i for i, c in enumerate(shown) if len(shown) <= MOST_NAMED or c in colours]
    below.set_yticks(named, [classes[shown[i]] for i in named])
    below.set_ylim(-0.7, len(shown) - 0.3)
    below.set_ylabel("predicted", color=INK)
    below.set_xlabel("simulated steps", color=INK)
    for axes in (above, below):
        plain_axes(axes, grid="both")
    return figure


def _name_lines(axes: Axes, heights: dict[str, float], right: float) -> None:
    """Names at the right end of lines; lines that end at the same height share one text, of a few names."""
    for height in sorted(set(heights.values())):
        names = sorted((name for name, other in heights.items() if other == height), reverse=True)
        if len(names) > FEW_NAMES + 1:
            names = [*names[:FEW_NAMES], f"and {len(names) - FEW_NAMES} more"]
        axes.annotate(
            ", ".join(names), (right, height), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8,
            color=INK,
        )  # fmt: skip
