"""Time-to-first-spike networks: spike times of all layers for one image, their distributions, and membrane potentials.

The unit of time is the length of the input's interval. A spike at t_max encodes an activation of 0: the neuron did not
reach its threshold before, and is called silent here.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from torch import Tensor

from respike.convert.exact.ttfs_net import TTFSNet
from respike.figures.style import DPI, FAINT, INK, PALETTE, plain_axes
from respike.simulate.ttfs.potentials import Potential

WINDOW = "#e9eef4"  # colour of a layer's interval
MOST_DOTS = 4000  # neurons of a layer that are drawn
BAND = 0.84  # share of a layer's height that its neurons use
BINS, COLUMNS = 40, 4
NARROWEST = 0.02  # share of the time axis below which an interval is too narrow to read
TIME = "time (input intervals)"
THRESHOLD = (0, (5, 3))
MOST_BARS = 12  # outputs that are drawn as bars

Windows = Mapping[str, tuple[float, float]]


def layer_windows(snn: TTFSNet) -> dict[str, tuple[float, float]]:
    """(t_min, t_max) of the input and of every hidden layer, by name."""
    *hidden, _ = snn.layers
    return {"input": (0.0, 1.0)} | {
        name: (float(snn.layers[name].t_min), float(snn.layers[name].t_max)) for name in hidden
    }


def raster(spike_times: Mapping[str, Tensor], windows: Windows, latency: float, name: str) -> Figure:
    """Every spike of one image as a dot: one band per layer, the input at the top, its interval [t_min, t_max] shaded.

    spike_times: layer -> times (...N). windows: layer -> (t_min, t_max). latency: time at which the outputs are read.
    name: of the image. Silent neurons have no dot; the share of the others is at the right. In layers of more than
    MOST_DOTS neurons, MOST_DOTS of them are drawn, chosen at random.
    """
    figure = Figure(figsize=(8.4, 1.3 + 0.62 * len(spike_times)), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    for i, (layer, times) in enumerate(spike_times.items()):
        _band(axes, i, times.double().flatten().numpy(), windows[layer])
    names = [f"{layer}\n{times.numel():,} neurons" for layer, times in spike_times.items()]
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
    """Scale the time axis such that the intervals of all layers are equally wide; ticks are at their ends."""
    bounds = np.unique([0.0, *(t_max for _, t_max in windows.values())])  # branches may end in any order
    corners = np.array([bounds[0] - 1, *bounds, bounds[-1] + 1])  # outside, one unit is as wide as an interval
    places = np.arange(-1.0, len(corners) - 1)
    low = axes.get_xlim()[0]
    axes.set_xscale(
        "function", functions=(lambda t: np.interp(t, corners, places), lambda u: np.interp(u, places, corners))
    )
    axes.set_xlim(low, bounds[-1] + 0.15)
    axes.set_xticks(bounds, [f"{bound:.3g}" if bound < 1000 else f"{bound:.0f}" for bound in bounds], fontsize=8)
    axes.set_xlabel(f"{TIME}, scaled so that all intervals are equally wide", color=INK)


def _band(axes: Axes, row: int, times: np.ndarray, window: tuple[float, float]) -> None:
    """A layer's interval, spikes and share of neurons that spike, between the heights row and row + BAND."""
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
    """Histograms of the spike times of each layer, in % of its neurons; the share of silent neurons is written.

    spike_times: layer -> times of all neurons in `images` images, any shape. windows: layer -> (t_min, t_max).
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
    source = "one image" if images == 1 else f"{images} images"
    figure.suptitle(f"Spike times within each layer's interval, {source}", x=0.01, ha="left", fontsize=11, color=INK)
    return figure


def _histogram(axes: Axes, times: np.ndarray, window: tuple[float, float]) -> None:
    t_min, t_max = window
    active = times[times < t_max]
    first = min(t_min, active.min(initial=t_min))  # with a negative zeta a neuron may fire before its interval
    if first < t_min:
        axes.axvspan(t_min, t_max, color=WINDOW, linewidth=0, zorder=0)
    shares, edges = np.histogram(active, BINS, (first, t_max))
    axes.stairs(100 * shares / len(times), edges, fill=True, color=PALETTE[0], zorder=2)
    plain_axes(axes, grid="y")
    axes.set_xlim(first, t_max)
    axes.locator_params(axis="x", nbins=4)
    axes.margins(y=0.28)
    silent = 100 * (1 - len(active) / len(times))
    text = f"{silent:.1f} % silent" if len(active) else "all silent"
    axes.text(0.98, 0.96, text, transform=axes.transAxes, ha="right", va="top", fontsize=9, color=INK)


def chosen_neurons(times: Tensor, t_max: float, number: int) -> list[int]:
    """Positions of up to `number` neurons of a layer: from the earliest spike to the latest at even ranks, and a silent one.

    times: spike times of the layer (...N). The silent neuron is taken from the middle of the layer, if there is one.
    """
    flat = times.flatten()
    order = flat.argsort(stable=True)
    active, silent = order[flat[order] < t_max], order[flat[order] >= t_max]
    wanted = number - 1 if len(silent) and number > 1 else number
    ranks = torch.linspace(0, len(active) - 1, min(wanted, len(active))).round().long()
    chosen = active[ranks].tolist()
    if len(silent) and len(chosen) < number:
        chosen.append(int(silent[len(silent) // 2]))
    return chosen


def hidden_potentials(
    layers: Mapping[str, Sequence[Potential]], windows: Mapping[str, tuple[float, float]], name: str
) -> Figure:
    """One line per layer, one column per neuron: V against time, the threshold and the spike; below, the input spikes.

    layers: name -> neurons. windows: name -> (t_min, t_max), shaded. name: of the image.
    """
    columns = max(map(len, layers.values()))
    size = (max(5.0, 2.5 * columns), 3.3 * len(layers) + 0.7)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    figure.suptitle(f"{name}: membrane potentials and input spikes", x=0.01, ha="left", fontsize=12, color=INK)
    for part, (layer, neurons) in zip(
        figure.subfigures(len(layers), 1, squeeze=False).flat, layers.items(), strict=True
    ):
        _layer(part, layer, neurons, windows[layer], columns)
    handles, labels = figure.subfigs[0].axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=4, frameon=False, labelcolor=INK, fontsize=9)
    return figure


def _layer(
    part: SubFigure, layer: str, neurons: Sequence[Potential], window: tuple[float, float], columns: int
) -> None:
    above, below = part.subplots(2, columns, sharex=True, squeeze=False, height_ratios=[2.4, 1])
    for top, bottom, neuron in zip(above, below, neurons, strict=False):
        for axes in (top, bottom):
            axes.axvspan(*window, color=WINDOW, linewidth=0, zorder=0)
        assert neuron.theta is not None and neuron.spike is not None  # only output neurons have neither
        _potential(top, neuron, neuron.theta, neuron.spike, window[1])
        spikes = neuron.spike < window[1]
        outcome = f"spikes at {neuron.spike:.4g}" if spikes else "silent"
        top.set_title(f"{layer}, neuron {neuron.neuron}\n{outcome}", loc="left", fontsize=9, color=INK)
        _inputs(bottom, neuron, window[0])
        bottom.set_xlabel(TIME, color=INK)
    for axes in [*above[len(neurons) :], *below[len(neurons) :]]:
        axes.set_axis_off()
    above[0].set_ylabel("potential V", color=INK)
    below[0].set_ylabel("weight J", color=INK)


def _potential(axes: Axes, neuron: Potential, theta: float, spike: float, t_max: float) -> None:
    """V up to the spike, and its continuation without a spike."""
    before = neuron.times <= spike
    level = _potential_at(neuron, spike)
    times, values = [*neuron.times[before].tolist(), spike], [*neuron.values[before].tolist(), level]
    axes.plot(times, values, color=PALETTE[0], linewidth=2, zorder=3, label="potential V")
    axes.plot(neuron.times, neuron.values, color=FAINT, linewidth=1.2, label="V without the spike")
    axes.axhline(theta, color=INK, linestyle=THRESHOLD, linewidth=1.2, label="threshold")
    face = PALETTE[1] if spike < t_max else "white"
    axes.plot([spike], [level], "o", color=PALETTE[1], markerfacecolor=face, zorder=4, label="spike (open: at t_max)")
    plain_axes(axes, grid="y")
    axes.locator_params(axis="both", nbins=5)


def _potential_at(neuron: Potential, time: float) -> float:
    """V at a time, by linear interpolation."""
    after = min(int((neuron.times <= time).sum()), len(neuron.times) - 1)
    (t0, t1), (v0, v1) = neuron.times[after - 1 : after + 1].tolist(), neuron.values[after - 1 : after + 1].tolist()
    return v0 + (v1 - v0) * (min(time, t1) - t0) / (t1 - t0) if t1 > t0 else v1


def _inputs(axes: Axes, neuron: Potential, t_min: float) -> None:
    """A vertical line at each input spike, as high as its weight. t_min: end of the inputs' interval."""
    active = neuron.arrivals < t_min
    heights = (neuron.weights[active] if bool(active.any()) else neuron.weights).numpy()
    low, high = float(heights.min(initial=0.0)), float(heights.max(initial=0.0))  # a neuron may have no input at all
    room = (high - low) or 1.0
    axes.set_ylim(low - 0.05 * room, high + 0.45 * room)
    for chosen, colour in ((active & (neuron.weights > 0), PALETTE[0]), (active & (neuron.weights < 0), PALETTE[1])):
        axes.vlines(neuron.arrivals[chosen], 0, neuron.weights[chosen], color=colour, linewidth=0.8)
    axes.axhline(0, color=FAINT, linewidth=0.8)
    plain_axes(axes, grid="y")
    axes.locator_params(axis="both", nbins=5)
    text = f"{int(active.sum())} input spikes"
    axes.text(0.99, 0.95, text, transform=axes.transAxes, ha="right", va="top", fontsize=8, color=INK)


def output_potentials(
    outputs: Sequence[Potential], logits: Tensor, label: int, classes: Sequence[str], name: str
) -> Figure:
    """Potentials of the output neurons until they are read, and as bars their values then; the largest one is predicted.

    outputs: one per class. logits: potentials that the record read, (C,). label: the true class, blue; if another class is
    predicted, it is orange. classes: their names. name: of the image. Of more than MOST_BARS outputs, the largest are bars.
    """
    predicted = int(logits.argmax())
    colours = {predicted: PALETTE[1], label: PALETTE[0]}  # the true class comes second: it is blue if both are one
    figure = Figure(figsize=(8.4, 3.9), dpi=DPI, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.6, 1])
    for c in range(len(outputs)):
        if c not in colours:
            left.plot(outputs[c].times, outputs[c].values, color=FAINT, linewidth=1, label="_")
    for c in sorted(colours):
        role = "true class" if c == label else "predicted class"
        left.plot(outputs[c].times, outputs[c].values, color=colours[c], linewidth=2.2, label=f"{classes[c]}, {role}")
    left.plot([], [], color=FAINT, linewidth=1, label="other classes")
    left.axvline(float(outputs[0].times[-1]), color=INK, linestyle=THRESHOLD, linewidth=1.2, label="outputs are read")
    left.legend(frameon=False, labelcolor=INK, loc="upper left")
    left.set_xlabel(TIME, color=INK)
    left.set_ylabel("potential of the outputs", color=INK)
    left.set_title(name, loc="left", fontsize=10, color=INK)
    plain_axes(left, grid="both")
    kept = sorted(logits.argsort(descending=True)[:MOST_BARS].tolist())
    bars = right.barh(range(len(kept)), logits[kept].tolist(), height=0.62, color=[colours.get(c, FAINT) for c in kept])
    right.set_yticks(range(len(kept)), [classes[c] for c in kept])
    right.bar_label(bars, fmt=lambda v: f"{v:.3g}".replace("-", "−"), padding=4, fontsize=8.5, color=INK)
    right.invert_yaxis()
    right.margins(x=0.28)
    plain_axes(right, grid="x")
    right.tick_params(axis="y", length=0)
    right.axvline(0, color=FAINT, linewidth=0.8)
    verdict = "correct" if predicted == label else f"true class: {classes[label]}"
    right.set_title(f"predicted: {classes[predicted]} ({verdict})", loc="left", fontsize=10, color=INK)
    right.set_xlabel("potential when read", color=INK)
    return figure
