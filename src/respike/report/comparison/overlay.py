"""Accuracy over simulated time of all compared settings: in one panel while few, else small multiples."""

import math
from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from respike.figures.curves import DPI, FAINT, INK, PALETTE, accuracy_over_time, plain_axes
from respike.report.comparison.gather import Comparison, axes_of, panels
from respike.report.comparison.points import Point
from respike.report.comparison.varied import Setting, shown

FEW = 12
MOST_PANELS = 24
MOST_LISTED = 8


def overlaid_curves(comparison: Comparison) -> Figure | None:
    """Mean curves, with the 95 % interval over seeds as a band; None where none of several steps was recorded."""
    drawn = [point for point in comparison.points if len(point.curve().get("acc", ())) > 1]
    if not drawn:
        return None
    return _one_panel(comparison, drawn) if len(drawn) <= FEW else _multiples(comparison, drawn)


def _one_panel(comparison: Comparison, drawn: Sequence[Point]) -> Figure:
    curves = {_curve_name(comparison, point): point.curve() for point in drawn}
    figure = accuracy_over_time(curves, ann=_shared_network(drawn))
    for axes in figure.axes:
        for line, point in zip(axes.get_lines(), drawn, strict=False):
            _band(axes, line, point)
    if comparison.seed_note():
        figure.axes[0].set_title(
            f"whole range; bands: 95 % interval over {comparison.repeated}", loc="left", fontsize=10, color=INK
        )
    return figure


def _curve_name(comparison: Comparison, point: Point) -> str:
    seeds = f", {len(point.runs)} {comparison.repeated}" if len(point.runs) > 1 else ""
    return f"{comparison.name(point)}{seeds}"


def _shared_network(drawn: Sequence[Point]) -> dict[str, float]:
    found = {run.number("ann/test_acc") for point in drawn for run in point.runs} - {None}
    return {"ReLU network": found.pop()} if len(found) == 1 else {}


def _band(axes: Axes, line: Line2D, point: Point) -> None:
    half = [100 * value for value in point.band()]
    if half:
        values = line.get_ydata()
        low, high = ([y + sign * h for y, h in zip(values, half, strict=True)] for sign in (-1, 1))
        axes.fill_between(line.get_xdata(), low, high, color=line.get_color(), alpha=0.2, linewidth=0)


def _multiples(comparison: Comparison, drawn: Sequence[Point]) -> Figure:
    """Colour: the setting with most values, numeric if there is one. Panels: every choice of the others."""
    numeric = sorted(axes_of(comparison), key=lambda s: -len(s.values))
    colour = numeric[0] if numeric else max(comparison.settings, key=lambda s: len(s.values))
    found = _panels(comparison, drawn, [colour.key])
    if len(drawn) < 2 * len(found):  # a search: hardly two runs share a value
        found = _panels(comparison, drawn, [setting.key for setting in (colour, *numeric)])
    columns = _columns(comparison, colour, next((s for s in numeric if s is not colour), None), len(found))
    shown_panels = list(found.items())[:MOST_PANELS]
    lines = math.ceil(len(shown_panels) / columns)
    size = (max(6.5, 2.75 * columns), 2.05 * lines + (1.1 if lines > 1 else 2.2))
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    paint = _colours(colour)
    clock = "time_ms" if all(point.curve().get("time_ms") for point in drawn) else "step"
    for i, (axes, (title, points)) in enumerate(zip(grid.flat, shown_panels, strict=False)):
        _panel(axes, points, clock, colour, paint)
        axes.set_title(title, loc="left", fontsize=9, color=INK)
        axes.set_ylabel("" if i % columns else "accuracy (%)", color=INK)
        if i + columns >= len(shown_panels):
            axes.set_xlabel("simulated time (ms)" if clock == "time_ms" else "simulated steps", color=INK)
            axes.tick_params(labelbottom=True)
    for spare in grid.flat[len(shown_panels) :]:
        spare.set_visible(False)
    _key(figure, list(grid.flat[: len(shown_panels)]), colour, paint, _shared_network(drawn))
    more = f", the first {MOST_PANELS} of {len(found)} panels" if len(found) > MOST_PANELS else ""
    seeds = f" ({comparison.seed_note()})" if comparison.seed_note() else ""
    title = f"Accuracy over simulated time, coloured by {colour.bare}{more}{seeds}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, color=INK)
    return figure


def _panels(comparison: Comparison, drawn: Sequence[Point], without: Sequence[str]) -> dict[str, list[Point]]:
    kept = {id(point) for point in drawn}
    found = {title: [p for p in points if id(p) in kept] for title, points in panels(comparison, without).items()}
    return {title: points for title, points in found.items() if points}


def _key(
    figure: Figure, grid: Sequence[Axes], colour: Setting, paint: dict[object, object], network: dict[str, float]
) -> None:
    """The legend, with a few of the values where there are many, and the dashed line of the ReLU network."""
    every = math.ceil(len(colour.values) / MOST_LISTED)
    values = colour.values[::every]
    handles = [Line2D([], [], color=paint[value], linewidth=2, label=shown(value)) for value in values]
    for name, level in network.items():
        for axes in grid:
            axes.axhline(100 * level, color=FAINT, linestyle=(0, (6, 3)), linewidth=1.1, zorder=1)
        handles.append(Line2D([], [], color=FAINT, linestyle=(0, (6, 3)), label=f"{name}\n{100 * level:.2f} %"))
    figure.legend(
        handles=handles, title=colour.label, loc="outside right center", frameon=False, labelcolor=INK, fontsize=9
    )


def _columns(comparison: Comparison, colour: Setting, row: Setting | None, number: int) -> int:
    """One column per value of the second numeric setting, where that leaves a readable width."""
    last = [s for s in comparison.settings if s is not colour][-1:]
    if row is not None and last == [row] and 1 < len(row.values) <= 5 and number % len(row.values) == 0:
        return len(row.values)
    return min(4, number)


def _colours(setting: Setting) -> dict[object, object]:
    if not setting.numeric and len(setting.values) <= len(PALETTE):
        return dict(zip(setting.values, PALETTE, strict=False))
    ramp: Colormap = matplotlib.colormaps["viridis"]
    last = max(1, len(setting.values) - 1)
    return {value: ramp(0.92 * i / last) for i, value in enumerate(setting.values)}


def _panel(axes: Axes, points: Sequence[Point], clock: str, colour: Setting, paint: dict[object, object]) -> None:
    for point in points:
        curve = point.curve()
        marker = "o" if len(curve[clock]) < FEW else None
        (line,) = axes.plot(
            curve[clock], [100 * a for a in curve["acc"]], color=paint[point.values[colour.key]], linewidth=1.6,
            marker=marker, markersize=4,
        )  # fmt: skip
        _band(axes, line, point)
    plain_axes(axes, grid="both")
    if clock == "step":
        axes.xaxis.set_major_locator(MaxNLocator(nbins=9, integer=True))
    axes.set_ylim(0, 102)
