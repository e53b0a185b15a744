"""Membrane potentials of a time-to-first-spike network: hidden neurons up to their spike, outputs up to their reading."""

from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from torch import Tensor

from respike.figures.curves import DPI, FAINT, INK, PALETTE, plain_axes
from respike.figures.spike_times import TIME, WINDOW
from respike.simulate.ttfs.potentials import Potential

THRESHOLD = (0, (5, 3))
MOST_BARS = 12  # outputs whose potentials are bars


def chosen_neurons(times: Tensor, t_max: float, number: int) -> list[int]:
    """Places of neurons to look at: spread evenly from the earliest spike (...N) to the latest, and a silent one.

    The silent one, from the middle of the layer, is left out where there is none.
    """
    flat = times.flatten()
    order = flat.argsort(stable=True)
    active, silent = order[flat[order] < t_max], order[flat[order] >= t_max]
    room = number - (1 if len(silent) and number > 1 else 0)
    picked = torch.linspace(0, len(active) - 1, min(room, len(active))).round().long()
    return [*active[picked].tolist(), *silent[len(silent) // 2 :][: number - len(picked)][:1].tolist()]


def hidden_potentials(
    layers: Mapping[str, Sequence[Potential]], windows: Mapping[str, tuple[float, float]], name: str
) -> Figure:
    """A line for each layer, a column for each neuron: V against time, its threshold, its spike; its inputs below.

    layers: name -> neurons, as many in each; windows: name -> (t_min, t_max), shaded; name: of the image.
    """
    columns = max(map(len, layers.values()))
    size = (max(5.0, 3.1 * columns), 3.7 * len(layers) + 0.7)
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
        _course(top, neuron, window[1])
        spikes = neuron.spike < window[1]
        outcome = f"spikes at {neuron.spike:.4g}" if spikes else "silent"
        top.set_title(f"{layer}, neuron {neuron.neuron}: {outcome}", loc="left", fontsize=9, color=INK)
        _inputs(bottom, neuron, window[0])
        bottom.set_xlabel(TIME, color=INK)
    for axes in [*above[len(neurons) :], *below[len(neurons) :]]:
        axes.set_axis_off()
    above[0].set_ylabel("potential V", color=INK)
    below[0].set_ylabel("weight J", color=INK)


def _course(axes: Axes, neuron: Potential, t_max: float) -> None:
    """V up to the spike, and beyond it as it would have gone on."""
    before = neuron.times <= neuron.spike
    level = _at(neuron, neuron.spike)
    times, values = [*neuron.times[before].tolist(), neuron.spike], [*neuron.values[before].tolist(), level]
    axes.plot(times, values, color=PALETTE[0], linewidth=2, zorder=3, label="potential V")
    axes.plot(neuron.times, neuron.values, color=FAINT, linewidth=1.2, label="V, had it not fired")
    axes.axhline(neuron.theta, color=INK, linestyle=THRESHOLD, linewidth=1.2, label="threshold")
    face = PALETTE[1] if neuron.spike < t_max else "white"
    axes.plot(
        [neuron.spike], [level], "o", color=PALETTE[1], markerfacecolor=face, zorder=4, label="spike (open: at t_max)"
    )
    plain_axes(axes, grid="y")
    axes.locator_params(axis="both", nbins=5)


def _at(neuron: Potential, time: float) -> float:
    """V at a time: between two corners a straight line."""
    after = min(int((neuron.times <= time).sum()), len(neuron.times) - 1)
    (t0, t1), (v0, v1) = neuron.times[after - 1 : after + 1].tolist(), neuron.values[after - 1 : after + 1].tolist()
    return v0 + (v1 - v0) * (min(time, t1) - t0) / (t1 - t0) if t1 > t0 else v1


def _inputs(axes: Axes, neuron: Potential, t_min: float) -> None:
    """A stroke for each input that spikes before its own interval ends, as high as its weight."""
    real = neuron.arrivals < t_min
    heights = neuron.weights[real] if bool(real.any()) else neuron.weights
    low, high = min(0.0, float(heights.min())), max(0.0, float(heights.max()))
    room = (high - low) or 1.0
    axes.set_ylim(low - 0.05 * room, high + 0.45 * room)
    for chosen, colour in ((real & (neuron.weights > 0), PALETTE[0]), (real & (neuron.weights < 0), PALETTE[1])):
        axes.vlines(neuron.arrivals[chosen], 0, neuron.weights[chosen], color=colour, linewidth=0.8)
    axes.axhline(0, color=FAINT, linewidth=0.8)
    plain_axes(axes, grid="y")
    axes.locator_params(axis="both", nbins=5)
    axes.text(
        0.99,
        0.95,
        f"{int(real.sum())} input spikes",
        transform=axes.transAxes,
        ha="right",
        va="top",
        fontsize=8,
        color=INK,
    )


def output_potentials(
    outputs: Sequence[Potential], logits: Tensor, label: int, classes: Sequence[str], name: str
) -> Figure:
    """Potentials of the output neurons up to their reading, and as bars what is read: the largest is the class named.

    outputs: one per class, in order; logits: what the record read (C,); label: the true class, blue; another class named is
    orange. Of more than MOST_BARS outputs those of the largest potentials are bars.
    """
    named = int(logits.argmax())
    colours = {named: PALETTE[1]} | {label: PALETTE[0]}
    figure = Figure(figsize=(10, 4.2), dpi=DPI, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.7, 1])
    for c in sorted(range(len(outputs)), key=lambda c: c in colours):
        role = "true class" if c == label else "class named"
        style = {"color": colours[c], "linewidth": 2.2, "label": f"{classes[c]}, {role}"} if c in colours else {}
        left.plot(outputs[c].times, outputs[c].values, **({"color": FAINT, "linewidth": 1, "label": "_"} | style))
    left.plot([], [], color=FAINT, linewidth=1, label="other classes")
    left.axvline(float(outputs[0].times[-1]), color=INK, linestyle=THRESHOLD, linewidth=1.2, label="reading")
    left.legend(frameon=False, labelcolor=INK, loc="upper left")
    left.set_xlabel(TIME, color=INK)
    left.set_ylabel("potential of the output neurons", color=INK)
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
    verdict = "right" if named == label else f"wrong, it is {classes[label]}"
    right.set_title(f"read: {classes[named]} ({verdict})", loc="left", fontsize=10, color=INK)
    right.set_xlabel("potential at the reading", color=INK)
    return figure
