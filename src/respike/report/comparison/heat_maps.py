"""Maps over two numeric settings: one panel for each choice of the others, every value written in its cell."""

import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from respike.figures.curves import DPI, FAINT, INK, plain_axes
from respike.report.comparison.cells import Cell, axis_values, map_cells
from respike.report.comparison.colours import LOG_FROM, colour_bar, colours_of
from respike.report.comparison.gather import Comparison, panels
from respike.report.comparison.measures import Measure
from respike.report.comparison.varied import Setting, shown

MOST_PANELS = 12
MOST_VALUES = 12  # of an axis of cells; a search has more, and its points are scattered
LEAST_FILLED = 0.3  # of the cells of a panel
GREY, PALE = (0.86, 0.86, 0.86, 1.0), (0.97, 0.97, 0.97, 1.0)

Cells = dict[tuple[int, int], Cell]


def heat_map(comparison: Comparison, measure: Measure, x: Setting, y: Setting) -> Figure:
    """One panel for each choice of the other settings, one colour scale for all; brighter is better.

    Cells without a number are hatched and say why. Nets that are mostly wrong are grey, so that they neither squash
    the colours nor pass for frugal ones, and have no time: a dead net settles at once. Accuracies are coloured by the
    logarithm of the error. Values that form no grid, such as those of a search, are points instead of cells.
    """
    found = list(panels(comparison, (x.key, y.key)).items())
    drawn = found[:MOST_PANELS]
    xs, ys = axis_values(comparison, x), axis_values(comparison, y)
    grids = [map_cells(comparison, measure, points, (x, xs), (y, ys)) for _, points in drawn]
    filled = sum(len(points) for _, points in drawn) / (len(xs) * len(ys) * len(drawn))
    as_cells = max(len(xs), len(ys)) <= MOST_VALUES and filled >= LEAST_FILLED
    colours = colours_of(measure, [c.value for grid in grids for c in grid.values() if c.value is not None])
    columns = min(3 if len(xs) <= 8 else 2, len(drawn))
    lines = math.ceil(len(drawn) / columns)
    width, height = (max(2.4, 0.72 * len(xs)) + 0.5, max(1.6, 0.46 * len(ys)) + 0.75) if as_cells else (4.2, 3.2)
    figure = Figure(figsize=(max(6.4, columns * width + 1.3), lines * height + 0.9), dpi=DPI, layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False)
    for i, (place, grid, (title, _)) in enumerate(zip(axes.flat, grids, drawn, strict=False)):
        (_panel if as_cells else _scattered)(place, grid, colours, xs, ys)
        place.set_xlabel(x.label, color=INK)
        place.set_ylabel(y.label if i % columns == 0 else "", color=INK)
        place.set_title(title, loc="left", fontsize=10, color=INK)
    for spare in axes.flat[len(grids) :]:
        spare.set_visible(False)
    colour_bar(figure, axes, colours, measure)
    figure.suptitle(_title(comparison, measure, x, y, len(found)), x=0.01, ha="left", fontsize=12, color=INK)
    return figure


def _title(comparison: Comparison, measure: Measure, x: Setting, y: Setting, number: int) -> str:
    notes = [comparison.measured_on(), comparison.seed_note()]
    notes += [f"the first {MOST_PANELS} of {number} combinations"] if number > MOST_PANELS else []
    aside = "; ".join(note for note in notes if note)
    return f"{measure.title}, by {y.bare} and {x.bare}\n{aside}"


def _face(cell: Cell, colours: ScalarMappable) -> Any:
    return colours.to_rgba(cell.value) if cell.value is not None else GREY if cell.known else PALE


def _panel(axes: Axes, grid: Cells, colours: ScalarMappable, xs: list[Any], ys: list[Any]) -> None:
    for (column, row), cell in grid.items():
        face = _face(cell, colours)
        hatch = {"edgecolor": "white"} if cell.known else {"hatch": "///", "edgecolor": "#d0d0d0", "linewidth": 0}
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=face, **hatch))
        dark = 0.299 * face[0] + 0.587 * face[1] + 0.114 * face[2] < 0.55
        colour = FAINT if not cell.known else "white" if dark else "black"
        small = "\n" in cell.text or not cell.known
        axes.text(column, row, cell.text, ha="center", va="center", color=colour, fontsize=7.5 if small else 9)
    axes.set(xlim=(-0.5, len(xs) - 0.5), ylim=(-0.5, len(ys) - 0.5))
    axes.set_xticks(range(len(xs)), [shown(value) for value in xs])
    axes.set_yticks(range(len(ys)), [shown(value) for value in ys])
    axes.tick_params(length=0, colors=INK)
    axes.spines[:].set_visible(False)


def _scattered(axes: Axes, grid: Cells, colours: ScalarMappable, xs: list[Any], ys: list[Any]) -> None:
    """Points where runs are; a cross where one has no number."""
    for (column, row), cell in grid.items():
        if cell.known:
            axes.plot(xs[column], ys[row], "o", color=_face(cell, colours), markeredgecolor="#777777", markersize=8)
        elif cell.text != "not run":
            axes.plot(xs[column], ys[row], "x", color=FAINT, markersize=6)
    plain_axes(axes, grid="both")
    for values, scale in ((xs, axes.set_xscale), (ys, axes.set_yscale)):
        if min(values) > 0 and max(values) / min(values) > LOG_FROM:
            scale("log")
