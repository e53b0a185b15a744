"""Layers of a spiking network: firing rates (mean, of one image, over steps and epochs) and membrane potentials."""

from collections.abc import Mapping, Sequence

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from torch import Tensor

from respike.figures.style import DPI, FAINT, INK, PALETTE, plain_axes

READABLE = 12  # columns of a map up to which its cells are annotated
WIDEST = 24  # inches of a map


def firing_rates(rates: Mapping[str, float], unit: str = "Hz") -> Figure:
    """Mean firing rate of each layer as a labelled bar, the first layer at the top.

    rates: layer -> spikes per neuron and second, or in another unit. Raises ValueError without layers.
    """
    if not rates:
        raise ValueError("no layer to draw; expected at least one firing rate")
    figure = Figure(figsize=(7, 1.1 + 0.36 * len(rates)), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(list(rates), list(rates.values()), height=0.62, color=PALETTE[0])
    axes.bar_label(bars, fmt=lambda rate: f"{rate:.3g}" if rate < 999.5 else f"{rate:.0f}", padding=4, color=INK)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlim(left=0)
    plain_axes(axes, grid="x")
    axes.spines["left"].set(visible=True, color=FAINT)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"mean firing rate ({unit})", color=INK)
    return figure


def rate_correlations(correlations: Mapping[str, float], steps: int) -> Figure:
    """How firing rates after T steps correlate with activations, layer by layer, the first at the top.

    correlations: layer -> Pearson coefficient. steps: T. Raises ValueError without layers.
    """
    if not correlations:
        raise ValueError("no layer to draw; expected at least one correlation")
    figure = Figure(figsize=(7, 1.1 + 0.24 * len(correlations)), dpi=DPI, layout="constrained")
    axes, names = figure.subplots(), list(correlations)
    values = [correlations[name] for name in names]
    axes.hlines(names, min(0.0, *values), values, color=FAINT, linewidth=1)
    axes.plot(values, names, "o", color=PALETTE[0])
    axes.set_xlim(min(0.0, *values) - 0.02, 1.08)
    for name, value in zip(names, values, strict=True):
        axes.annotate(
            f"{value:.3f}", (value, name), (6, 0), textcoords="offset points", va="center", fontsize=7, color=INK
        )
    axes.invert_yaxis()
    plain_axes(axes, grid="x")
    axes.tick_params(axis="y", length=0, labelsize=8)
    axes.set_xlabel(f"correlation of firing rates after {steps} steps with activations", color=INK)
    return figure


def layer_rates(rates: Mapping[str, float], name: str, published: Sequence[float] | None = None) -> Figure:
    """Spikes per neuron of each layer as bars, the first layer at the left, with published ones next to them.

    rates: layer -> spikes per neuron, summed over the steps. published: one per layer; not drawn if their number differs.
    Raises ValueError without layers.
    """
    if not rates:
        raise ValueError("no layer to draw; expected at least one firing rate")
    if published is not None and len(published) != len(rates):
        published = None
    figure = Figure(figsize=(max(5.0, 2 + 0.5 * len(rates)), 3.8), dpi=DPI, layout="constrained")
    axes, places, width = figure.subplots(), np.arange(len(rates)), 0.4 if published else 0.7
    left = places - width / 2 if published else places
    bars = axes.bar(left, list(rates.values()), width, color=PALETTE[0], label="this run")
    axes.bar_label(bars, fmt=_short, fontsize=6.5, color=INK, padding=1)
    if published:
        bars = axes.bar(places + width / 2, list(published), width, color=FAINT, label="published, full width")
        axes.bar_label(bars, fmt=_short, fontsize=6.5, color=FAINT, padding=1)
        axes.legend(frameon=False, labelcolor=INK)
    plain_axes(axes, grid="y")
    axes.set_xticks(places, list(rates), fontsize=8, rotation=45, ha="right", rotation_mode="anchor")
    axes.margins(x=0.01, y=0.12)
    axes.set_ylabel("spikes per neuron", color=INK)
    axes.set_title(name, loc="left", fontsize=10, color=INK)
    return figure


def rate_map(rates: Mapping[str, Sequence[float]], columns: Sequence[float], name: str, title: str) -> Figure:
    """Firing rates as a heat map: one line per layer, the first at the top, one column per step or epoch.

    rates: layer -> spikes per neuron and step, one per column. columns: numbers of the steps or epochs. name: "step" or
    "epoch". Raises ValueError without a layer or a column.
    """
    if not rates or not len(columns):
        raise ValueError("no rate to draw; expected at least one layer and one column")
    values = np.array(list(rates.values()))
    readable = len(columns) <= READABLE
    width = min(3.2 + (0.55 if readable else 0.12) * max(len(columns), 4), WIDEST)
    size = (width, 1.2 + 0.24 * len(rates))
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    axes = figure.subplots()
    sns.heatmap(
        values, ax=axes, cmap="viridis", vmin=0, vmax=max(float(np.nanmax(values)), 1e-9),
        annot=np.vectorize(_short, otypes=[object])(values) if readable else None, fmt="", annot_kws={"fontsize": 7},
        xticklabels=False, yticklabels=list(rates),
        cbar_kws={"label": "spikes per neuron and step"},
    )  # fmt: skip
    every = -(-len(columns) // READABLE)
    axes.set_xticks(np.arange(len(columns))[::every] + 0.5, [f"{column:g}" for column in columns[::every]], rotation=0)
    axes.tick_params(length=0, colors=INK, labelsize=8)
    axes.tick_params(axis="y", rotation=0)
    axes.set_xlabel(name, color=INK)
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    colour_bar = figure.axes[-1]
    colour_bar.tick_params(labelsize=8)
    colour_bar.set_ylabel("spikes per neuron and step", fontsize=8, color=INK)
    return figure


def potential_panels(counts: Mapping[str, Tensor], low: float, high: float, v_th: float, title: str) -> Figure:
    """Membrane potentials of each layer as a histogram; those at or above the threshold, which fire, are orange.

    counts: layer -> int (bins,) over [low, high], with potentials outside counted in the outer bins. Raises ValueError
    without layers.
    """
    if not counts:
        raise ValueError("no layer to draw; expected at least one histogram")
    columns = min(4, len(counts))
    lines = -(-len(counts) // columns)
    figure = Figure(figsize=(2.1 * columns, 1.35 * lines + 0.7), dpi=DPI, layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False, sharex=True).ravel()
    for axes, (name, found) in zip(panels, counts.items(), strict=False):
        edges = np.linspace(low, high, len(found) + 1)
        shares = found.double().numpy() / max(int(found.sum()), 1)
        fires = edges[:-1] >= v_th - 1e-9
        for chosen, colour in ((~fires, PALETTE[0]), (fires, PALETTE[1])):
            axes.bar(edges[:-1][chosen], shares[chosen], np.diff(edges)[chosen], align="edge", color=colour)
        axes.axvline(v_th, color=INK, linewidth=0.8)
        axes.set_title(f"{name}: {100 * shares[fires].sum():.1f} % fire", loc="left", fontsize=8, color=INK)
        plain_axes(axes, grid="x")
        axes.set_yscale("log")
        axes.set_ylim(1e-5, 1)
        axes.tick_params(labelsize=7)
        axes.tick_params(axis="y", labelleft=False, length=0, which="both")
    for axes in panels[len(counts) :]:
        axes.set_axis_off()
    for axes in panels[max(0, len(counts) - columns) : len(counts)]:  # the lowest panel of each column
        axes.tick_params(axis="x", labelbottom=True)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, color=INK)
    figure.supxlabel(
        f"membrane potential (line: threshold {v_th:g}); share of potentials, logarithmic", fontsize=9, color=INK
    )
    return figure


def _short(value: float) -> str:
    return f"{value:.3f}".removeprefix("0") if value < 1 else f"{value:.2f}"
