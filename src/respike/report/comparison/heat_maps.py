"""Heat maps over two numeric settings: one panel for each choice of the others, every value written in its cell."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from respike.report.columns import count
from respike.report.comparison.gather import Comparison, panels
from respike.report.comparison.measures import Measure
from respike.report.comparison.points import Point
from respike.report.comparison.stretched import error, ticks
from respike.report.comparison.trade_off import accuracy_of, useful, usefulness_floor
from respike.report.comparison.varied import Setting, shown
from respike.report.figures import DPI, FAINT, INK

MOST_PANELS = 12
GREY, PALE = (0.86, 0.86, 0.86, 1.0), (0.97, 0.97, 0.97, 1.0)
LOG_FROM = 20.0  # a ratio of largest to smallest from which equal ratios get equal steps of colour


@dataclass(frozen=True)
class Cell:
    """value: what is coloured, None for nothing; text: what is written; known: False for a hatched cell."""

    value: float | None
    text: str
    known: bool = True


def heat_map(comparison: Comparison, measure: Measure, x: Setting, y: Setting) -> Figure:
    """One panel for each choice of the other settings, one colour scale for all; brighter is better.

    Cells without a number are hatched and say why. Nets that are mostly wrong are grey, so that they neither squash
    the colours nor pass for frugal ones, and have no time: a dead net settles at once. Accuracies are coloured by the
    logarithm of the error.
    """
    found = list(panels(comparison, (x.key, y.key)).items())
    shown_panels = found[:MOST_PANELS]
    xs, ys = _axis(comparison, x), _axis(comparison, y)
    grids = [_cells(comparison, measure, points, (x, xs), (y, ys)) for _, points in shown_panels]
    scale = _scale(measure, [cell.value for grid in grids for cell in grid.values() if cell.value is not None])
    columns = min(3 if len(xs) <= 8 else 2, len(shown_panels))
    lines = math.ceil(len(shown_panels) / columns)
    width, height = max(2.4, 0.72 * len(xs)) + 0.5, max(1.6, 0.46 * len(ys)) + 0.75
    figure = Figure(figsize=(max(6.4, columns * width + 1.3), lines * height + 0.9), dpi=DPI, layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False)
    reverse = measure.better < 0 or _by_error(measure)
    colours = ScalarMappable(scale, matplotlib.colormaps["viridis_r" if reverse else "viridis"])
    for i, (place, grid, (title, _)) in enumerate(zip(axes.flat, grids, shown_panels, strict=False)):
        _panel(place, grid, colours, (x, xs), (y, ys))
        place.set_ylabel(y.label if i % columns == 0 else "", color=INK)
        place.set_title(title, loc="left", fontsize=10, color=INK)
    for spare in axes.flat[len(grids) :]:
        spare.set_visible(False)
    _bar(figure, axes, colours, measure)
    figure.suptitle(_title(comparison, measure, x, y, len(found)), x=0.01, ha="left", fontsize=12, color=INK)
    return figure


def _axis(comparison: Comparison, setting: Setting) -> list[Any]:
    """Ascending values, those of failed jobs included."""
    failed = {values[setting.key] for values in comparison.failed_values} - {None}
    return sorted({*setting.values, *failed})


def _cells(
    comparison: Comparison, measure: Measure, points: Sequence[Point], x: tuple[Setting, list], y: tuple[Setting, list]
) -> dict[tuple[int, int], Cell]:
    """(column, row) -> cell, for each pair of values."""
    same_set = [point for point in comparison.points if point.data == points[0].data]
    worth = {id(point) for point in useful(same_set)}
    floor = 100 * usefulness_floor(same_set)
    others = {key: value for key, value in points[0].values.items() if key not in (x[0].key, y[0].key)}
    there = {(point.values[x[0].key], point.values[y[0].key]): point for point in points}
    cells = {}
    for column, at_x in enumerate(x[1]):
        for row, at_y in enumerate(y[1]):
            wanted = others | {x[0].key: at_x, y[0].key: at_y}
            cells[column, row] = _cell(measure, there.get((at_x, at_y)), worth, floor, wanted, comparison)
    return cells


def _cell(
    measure: Measure, point: Point | None, worth: set[int], floor: float, wanted: dict[str, Any], comparison: Comparison
) -> Cell:
    if point is None:
        return Cell(None, "failed" if wanted in comparison.failed_values else "not run", known=False)
    value, half = point.mean(measure), point.interval(measure)
    if value is None:
        return Cell(None, "never" if measure.key.startswith("time_to_") else "none", known=False)
    useless = id(point) not in worth and accuracy_of(point) is not None
    if useless and measure.unit == "ms":
        return Cell(None, f"accuracy\nunder {floor:.0f} %", known=False)
    text = f"{_short(measure, value)}\n±{_short(measure, half)}" if half is not None else _short(measure, value)
    if useless:
        return Cell(None, text)
    return Cell(error(point, measure) if _by_error(measure) else measure.scaled(value), text)


def _by_error(measure: Measure) -> bool:
    return measure.unit == "%"


def _short(measure: Measure, value: float) -> str:
    scaled = measure.scaled(value)
    if measure.unit == "%":
        return f"{scaled:.1f}"
    return f"{scaled / 1000:.1f}k" if abs(scaled) >= 1000 else f"{scaled:.3g}"


def _scale(measure: Measure, values: Sequence[float]) -> Normalize:
    low, high = (min(values), max(values)) if values else (1.0, 2.0)
    if low >= high:
        low, high = (0.9 * low, 1.1 * low) if low > 0 else (0.0, 1.0)
    logarithmic = low > 0 and (_by_error(measure) or high / low > LOG_FROM)
    return LogNorm(low, high) if logarithmic else Normalize(low, high)


def _bar(figure: Figure, axes: Any, colours: ScalarMappable, measure: Measure) -> None:
    bar = figure.colorbar(colours, ax=axes, shrink=0.9, pad=0.02)
    grey = "" if measure.unit == "ms" else ",\ngrey is under half of the best accuracy"
    if _by_error(measure):
        bar.ax.set_yticks(*ticks(colours.norm.vmin, colours.norm.vmax))
        bar.ax.set_yticks([], minor=True)
        bar.ax.invert_yaxis()
        label = f"{measure.words} (%): brighter is better{grey}"
    else:
        bar.ax.yaxis.set_major_formatter(lambda value, _: count(value))
        label = f"{measure.heading}{': brighter is less' if measure.better < 0 else ''}{grey}"
    bar.set_label(label, color=INK)
    bar.ax.tick_params(colors=INK)
    bar.outline.set_visible(False)


def _title(comparison: Comparison, measure: Measure, x: Setting, y: Setting, number: int) -> str:
    notes = [comparison.measured_on(), comparison.seed_note()]
    notes += [f"the first {MOST_PANELS} of {number} combinations"] if number > MOST_PANELS else []
    aside = "; ".join(note for note in notes if note)
    return f"{measure.title}, by {y.bare} and {x.bare}\n{aside}"


def _panel(
    axes: Axes,
    grid: dict[tuple[int, int], Cell],
    colours: ScalarMappable,
    x: tuple[Setting, list],
    y: tuple[Setting, list],
) -> None:
    for (column, row), cell in grid.items():
        face = colours.to_rgba(cell.value) if cell.value is not None else GREY if cell.known else PALE
        hatch = {"edgecolor": "white"} if cell.known else {"hatch": "///", "edgecolor": "#d0d0d0", "linewidth": 0}
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=face, **hatch))
        dark = 0.299 * face[0] + 0.587 * face[1] + 0.114 * face[2] < 0.55
        colour = FAINT if not cell.known else "white" if dark else "black"
        small = "\n" in cell.text or not cell.known
        axes.text(column, row, cell.text, ha="center", va="center", color=colour, fontsize=7.5 if small else 9)
    axes.set(xlim=(-0.5, len(x[1]) - 0.5), ylim=(-0.5, len(y[1]) - 0.5))
    axes.set_xticks(range(len(x[1])), [shown(value) for value in x[1]])
    axes.set_yticks(range(len(y[1])), [shown(value) for value in y[1]])
    axes.set_xlabel(x[0].label, color=INK)
    axes.tick_params(length=0, colors=INK)
    axes.spines[:].set_visible(False)
