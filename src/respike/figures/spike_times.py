"""Spike times of a time-to-first-spike network: all layers for one image, and how they spread in each layer's interval.

Times are in the mapping's own unit, in which the input lasts 1. A spike at t_max stands for an activation of 0: the neuron
did not reach its threshold before, and is called silent here.
"""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from respike.convert.exact.ttfs_net import TTFSNet
from respike.figures.curves import DPI, INK, PALETTE, plain_axes
from respike.report.columns import count

WINDOW = "#e9eef4"  # behind the interval of a layer
MOST_DOTS = 4000  # of a layer; of larger ones so many neurons are drawn
BAND = 0.84  # of a layer's height that its neurons take
BINS, COLUMNS = 40, 4
NARROWEST = 0.02  # share of the time axis below which a layer's interval cannot be read
TIME = "time (input intervals)"

Windows = Mapping[str, tuple[float, float]]


def layer_windows(snn: TTFSNet) -> dict[str, tuple[float, float]]:
    """(t_min, t_max) of the input and of every hidden layer, by name."""
    *hidden, _ = snn.layers
    return {"input": (0.0, 1.0)} | {
        name: (float(snn.layers[name].t_min), float(snn.layers[name].t_max)) for name in hidden
    }


def raster(spike_times: Mapping[str, Tensor], windows: Windows, latency: float, name: str) -> Figure:
    """Every spike of one image as a dot, a band for each layer from the input down, its interval [t_min, t_max] shaded.

    spike_times: layer -> times (...N); windows: the same layers -> (t_min, t_max); latency: when the outputs are read;
    name: of the image. Silent neurons have no dot; the share of the others stands beside the band. Of layers of more
    than MOST_DOTS neurons so many are drawn, chosen at random.
    """
    figure = Figure(figsize=(10, 1.3 + 0.62 * len(spike_times)), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    for i, (layer, times) in enumerate(spike_times.items()):
        _band(axes, i, times.double().flatten().numpy(), windows[layer])
    names = [f"{layer}\n{count(times.numel())} neurons" for layer, times in spike_times.items()]
    plain_axes(axes, grid="x")
    axes.set_yticks([i + BAND / 2 for i in range(len(names))], names, fontsize=8.5)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(names), -0.15)
    axes.axvline(latency, color=PALETTE[1], linewidth=1.6, zorder=4)
    axes.annotate(
        f"outputs are read at {latency:.4g}", (latency, 1), xycoords=("data", "axes fraction"), xytext=(0, 4),
        textcoords="offset points", ha="right", fontsize=9, color=PALETTE[1], annotation_clip=False,
    )  # fmt: skip
    axes.set_xlim(min(0.0, *(float(times.min()) for times in spike_times.values())), 1.01 * latency)
    axes.set_xlabel(TIME, color=INK)
    axes.set_title(f"{name}: spikes of all layers", loc="left", fontsize=10, color=INK)
    if min(t_max - t_min for t_min, t_max in windows.values()) < NARROWEST * latency:
        _equal_intervals(axes, windows)
    return figure


def _equal_intervals(axes: Axes, windows: Windows) -> None:
    """Every layer's interval as wide as the next: time is stretched, and marked where intervals meet."""
    bounds = np.array([0.0, *(t_max for _, t_max in windows.values())])
    corners = np.array([bounds[0] - 1, *bounds, bounds[-1] + 1])  # beyond the intervals 1 is as wide as one of them
    places = np.arange(-1.0, len(corners) - 1)
    low = axes.get_xlim()[0]
    axes.set_xscale(
        "function", functions=(lambda t: np.interp(t, corners, places), lambda u: np.interp(u, places, corners))
    )
    axes.set_xlim(low, bounds[-1] + 0.15)
    axes.set_xticks(bounds, [f"{bound:.3g}" for bound in bounds], fontsize=8)
    axes.set_xlabel(f"{TIME}, stretched so that every layer's interval is as wide", color=INK)


def _band(axes: Axes, row: int, times: np.ndarray, window: tuple[float, float]) -> None:
    """The interval, the spikes and the share of neurons that spike, at heights row to row + BAND."""
    t_min, t_max = window
    axes.fill_between([t_min, t_max], row, row + BAND, color=WINDOW, linewidth=0, zorder=1)
    active = times < t_max
    shown = np.arange(len(times))
    if len(shown) > MOST_DOTS:
        shown = np.random.default_rng(0).choice(len(times), MOST_DOTS, replace=False)
    shown = shown[active[shown]]
    size = min(5.0, max(0.9, 1500 / min(len(times), MOST_DOTS)))
    heights = row + BAND * (shown + 0.5) / len(times)
    axes.scatter(times[shown], heights, s=size, color=PALETTE[0], linewidths=0, alpha=0.75, zorder=3)
    some = f"\n{MOST_DOTS:,} drawn" if len(times) > MOST_DOTS else ""
    axes.annotate(
        f"{100 * active.mean():.1f} % spike{some}", (1, row + BAND / 2), xycoords=("axes fraction", "data"),
        xytext=(6, 0), textcoords="offset points", va="center", fontsize=8.5, color=INK, annotation_clip=False,
    )  # fmt: skip


def spike_time_distributions(spike_times: Mapping[str, Tensor], windows: Windows, images: int) -> Figure:
    """A histogram of the spike times in each layer's interval, in % of its neurons; the silent share is a number.

    spike_times: layer -> times of all neurons of `images` images, any shape; windows: as in `raster`.
    """
    columns = min(COLUMNS, len(spike_times))
    rows = -(-len(spike_times) // columns)
    figure = Figure(figsize=(max(5.0, 2.9 * columns), 2.3 * rows + 0.7), dpi=DPI, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (layer, times) in zip(panels, spike_times.items(), strict=False):
        _histogram(axes, times.double().flatten().numpy(), windows[layer])
        axes.set_title(layer, loc="left", fontsize=10, color=INK)
    for axes in panels[len(spike_times) :]:
        axes.set_axis_off()
    for axes in panels[: len(spike_times)][-columns:]:
        axes.set_xlabel("time", color=INK)
    for axes in panels[::columns]:
        axes.set_ylabel("% of the neurons", color=INK)
    of = "one image" if images == 1 else f"{images} images"
    figure.suptitle(
        f"When neurons spike within their layer's interval, {of}", x=0.01, ha="left", fontsize=12, color=INK
    )
    return figure


def _histogram(axes: Axes, times: np.ndarray, window: tuple[float, float]) -> None:
    t_min, t_max = window
    active = times[times < t_max]
    first = min(t_min, active.min(initial=t_min))  # under a negative zeta a neuron may fire before its interval
    if first < t_min:
        axes.axvspan(t_min, t_max, color=WINDOW, linewidth=0, zorder=0)
    shares, edges = np.histogram(active, BINS, (first, t_max))
    axes.stairs(100 * shares / len(times), edges, fill=True, color=PALETTE[0], zorder=2)
    plain_axes(axes, grid="y")
    axes.set_xlim(first, t_max)
    axes.locator_params(axis="x", nbins=4)
    axes.margins(y=0.28)
    silent = 100 * (1 - len(active) / len(times))
    words = f"{silent:.1f} % silent" if len(active) else "all silent"
    axes.text(0.98, 0.96, words, transform=axes.transAxes, ha="right", va="top", fontsize=9, color=INK)
