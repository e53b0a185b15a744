"""What the layers of a directly trained network do: firing rates, over steps and epochs too, and membrane potentials."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from respike.figures.curves import DPI, FAINT, INK, PALETTE, plain_axes

READABLE = 12  # columns of a map up to here have their numbers written in


def layer_rates(rates: Mapping[str, float], name: str, published: Sequence[float] | None = None) -> Figure:
    """Spikes per neuron of each layer as bars, first layer on the left; beside them the published ones.

    rates: layer -> spikes per neuron, summed over the steps. published: one per layer, left out where they are not as many.
    Raises ValueError without layers.
    """
    if not rates:
        raise ValueError("no layer to draw; expected at least one firing rate")
    beside = published is not None and len(published) == len(rates)
    figure = Figure(figsize=(max(5.0, 2 + 0.5 * len(rates)), 3.8), dpi=DPI, layout="constrained")
    axes, places, width = figure.subplots(), np.arange(len(rates)), 0.4 if beside else 0.7
    own = axes.bar(places - width / 2 * beside, list(rates.values()), width, color=PALETTE[0], label="ours")
    axes.bar_label(own, fmt=_short, fontsize=6.5, color=INK, padding=1)
    if beside:
        other = axes.bar(places + width / 2, list(published), width, color=FAINT, label="published, full width")
        axes.bar_label(other, fmt=_short, fontsize=6.5, color=FAINT, padding=1)
        axes.legend(frameon=False, labelcolor=INK)
    plain_axes(axes, grid="y")
    axes.set_xticks(places, [f"{i}\n{layer}" for i, layer in enumerate(rates)], fontsize=7, rotation=60)
    axes.margins(x=0.01, y=0.12)
    axes.set_ylabel("spikes per neuron", color=INK)
    axes.set_title(name, loc="left", fontsize=10, color=INK)
    return figure


def rate_map(rates: Mapping[str, Sequence[float]], columns: Sequence[float], name: str, title: str) -> Figure:
    """Firing rates as colours: a line per layer, first on top, a column per step or epoch.

    rates: layer -> spikes per neuron and step, one per column. name: of the columns. Raises ValueError without any.
    """
    if not rates or not len(columns):
        raise ValueError("no rate to draw; expected at least one layer and one column")
    values = np.array(list(rates.values()))
    shown = len(columns) <= READABLE
    size = (2.4 + (0.55 if shown else 0.12) * max(len(columns), 4), 1.2 + 0.24 * len(rates))
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    axes, top = figure.subplots(), max(float(np.nanmax(values)), 1e-9)
    picture = axes.imshow(values, cmap="viridis", vmin=0, vmax=top, aspect="auto")
    for (i, j), value in np.ndenumerate(values) if shown else ():
        axes.text(
            j, i, _short(value), ha="center", va="center", fontsize=7, color="white" if value < 0.6 * top else INK
        )
    every = max(1, math.ceil(len(columns) / READABLE))
    axes.set_xticks(range(0, len(columns), every), [f"{column:g}" for column in columns[::every]])
    axes.set_yticks(range(len(rates)), list(rates), fontsize=8)
    axes.tick_params(length=0, colors=INK)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(name, color=INK)
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    figure.colorbar(picture, label="spikes per neuron and step", fraction=0.08, pad=0.02).outline.set_visible(False)
    return figure


def potential_panels(counts: Mapping[str, Tensor], low: float, high: float, v_th: float, title: str) -> Figure:
    """Membrane potentials of each layer as histograms, those above the threshold, which fire, in orange.

    counts: layer -> int (bins,) over [low, high], what lies beyond in the outer bins. Raises ValueError without layers.
    """
    if not counts:
        raise ValueError("no layer to draw; expected at least one histogram")
    columns = min(5, len(counts))
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
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, color=INK)
    figure.supxlabel(
        f"membrane potential; line: threshold {v_th:g}; shares on a logarithmic scale", fontsize=9, color=INK
    )
    return figure


def _short(value: float) -> str:
    return f"{value:.3f}".removeprefix("0") if value < 1 else f"{value:.2f}"
