"""Heat maps over two numeric settings: one panel for each choice of the others, every value written in its cell."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from respike.figures.style import DPI, FAINT, INK, plain_axes
from respike.report.columns import Column, count
from respike.report.comparison.compare import Comparison, axis_values, failed_at
from respike.report.comparison.trade_figure import log_error_ticks
from respike.report.comparison.trade_off import useful, useful_from
from respike.report.comparison.varied import DATA, Setting

MOST_PANELS = 12
MOST_VALUES = 12  # of an axis with cells; a search tries more, and its points are scattered
LEAST_FILLED = 0.3  # of the cells of a panel
LOG_FROM = 20.0  # ratio of largest to smallest value from which the colours are logarithmic
GREY, PALE = "#dbdbdb", "#f7f7f7"


def forms_grid(comparison: Comparison, x: Setting, y: Setting) -> bool:
    """Whether the values of two settings form a grid that is drawn as cells; those of a search are drawn as points."""
    panels = list(comparison.panels((x.key, y.key)).values())[:MOST_PANELS]
    xs, ys = axis_values(comparison, x), axis_values(comparison, y)
    filled = sum(map(len, panels)) / (len(xs) * len(ys) * len(panels))
    return max(len(xs), len(ys)) <= MOST_VALUES and filled >= LEAST_FILLED


def heat_map(comparison: Comparison, column: Column, x: Setting, y: Setting) -> Figure:
    """A metric over two settings; one colour scale for all panels, brighter is better.

    Cells without a number are hatched and say why. Networks that are mostly wrong are grey, because they would take up
    most of the colour scale, and they have no time, because a dead network settles at once. Accuracies are coloured by the
    logarithm of the error. Values that form no grid, such as those of a search, are points instead of cells.
    """
    panels = comparison.panels((x.key, y.key))
    drawn = list(panels.items())[:MOST_PANELS]
    xs, ys = axis_values(comparison, x), axis_values(comparison, y)
    points = _coloured(comparison, column)
    norm, palette = _scale(column, points["value"].loc[[i for _, panel in drawn for i in panel]].dropna())
    as_cells = forms_grid(comparison, x, y)
    columns = min(3 if len(xs) <= 8 else 2, len(drawn))
    lines = math.ceil(len(drawn) / columns)
    width, height = (max(2.4, 0.72 * len(xs)) + 0.5, max(1.6, 0.46 * len(ys)) + 0.75) if as_cells else (4.2, 3.2)
    figure = Figure(figsize=(max(6.4, columns * width + 1.3), lines * height + 0.9), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)  # seaborn measures tick labels on a canvas
    grid = figure.subplots(lines, columns, squeeze=False)
    for i, (axes, (title, panel)) in enumerate(zip(grid.flat, drawn, strict=False)):
        if as_cells:
            _cells(axes, comparison, points.loc[panel], (x, xs), (y, ys), norm, palette)
        else:
            _scatter(axes, points.loc[panel], x, y, norm, palette)
        axes.set_xlabel(x.label, color=INK)
        axes.set_ylabel(y.label if i % columns == 0 else "", color=INK)
        axes.set_title(title, loc="left", fontsize=10, color=INK)
    for spare in grid.flat[len(drawn) :]:
        spare.set_visible(False)
    _colour_bar(figure, grid, column, norm, palette)
    notes = [comparison.measured_on(), comparison.seed_note()]
    notes += [f"the first {MOST_PANELS} of {len(panels)} combinations"] if len(panels) > MOST_PANELS else []
    title = f"{column.figure_title}, by {y.bare} and {x.bare}\n{'; '.join(filter(None, notes))}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, color=INK)
    return figure


def _coloured(comparison: Comparison, column: Column) -> pd.DataFrame:
    """The points with `value`, what is coloured (NaN for none), `text`, what is written, and `known`, False to hatch."""
    means, halves, data = comparison.means, comparison.halves, comparison.points[DATA]
    values = means[column.key]
    texts = [
        _short(column, value) + ("" if math.isnan(half) else f"\n±{_short(column, half)}")
        for value, half in zip(values, halves[column.key], strict=True)
    ]
    points = comparison.points.assign(
        value=comparison.errors(column.key) if column.unit == "%" else column.scaled(values),
        text=texts,
        known=values.notna(),
    )
    points.loc[values.isna(), "text"] = "never" if column.key.startswith("time_to_") else "none"
    useless = ~useful(means, data) & means["snn/test_acc"].notna() & values.notna()
    points.loc[useless, "value"] = math.nan
    if column.unit == "ms":
        floors = (100 * useful_from(means, data)[useless]).map("accuracy\nunder {:.0f} %".format)
        points.loc[useless, "text"] = floors
        points.loc[useless, "known"] = False
    return points


def _short(column: Column, value: float) -> str:
    scaled = column.scaled(value)
    if column.unit == "%":
        return f"{scaled:.1f}"
    return f"{scaled / 1000:.1f}k" if abs(scaled) >= 999.5 else f"{scaled:.3g}"


def _scale(column: Column, values: pd.Series) -> tuple[Normalize, str]:
    """A scale over the values, logarithmic for the error of an accuracy, and a palette in which brighter is better."""
    low, high = (values.min(), values.max()) if len(values) else (1.0, 2.0)
    if low >= high:
        low, high = (0.9 * low, 1.1 * low) if low > 0 else (0.0, 1.0)
    logarithmic = low > 0 and (column.unit == "%" or high / low > LOG_FROM)
    palette = "viridis_r" if column.better < 0 or column.unit == "%" else "viridis"
    return (LogNorm if logarithmic else Normalize)(low, high), palette


def _cells(
    axes: Axes,
    comparison: Comparison,
    points: pd.DataFrame,
    x: tuple[Setting, Sequence[Any]],
    y: tuple[Setting, Sequence[Any]],
    norm: Normalize,
    palette: str,
) -> None:
    (x_setting, xs), (y_setting, ys) = x, y
    down = list(reversed(ys))  # the largest value on top
    values, texts, known = (
        points.pivot(index=y_setting.key, columns=x_setting.key, values=name).reindex(index=down, columns=list(xs))
        for name in ("value", "text", "known")
    )
    values = values.astype(float)
    sns.heatmap(
        values, annot=texts, fmt="", mask=values.isna(), norm=norm, cmap=palette, cbar=False, linewidths=1, ax=axes,
        xticklabels=[x_setting.shown(value) for value in xs], yticklabels=[y_setting.shown(value) for value in down],
    )  # fmt: skip
    others = {s.key: points[s.key].iloc[0] for s in comparison.settings if s not in (x_setting, y_setting)}
    is_coloured = values.notna().to_numpy()
    for row, at_y in enumerate(down):
        for place, at_x in enumerate(xs):
            if is_coloured[row, place]:
                continue
            text: Any = texts.iloc[row, place]
            is_known = isinstance(text, str) and bool(known.iloc[row, place])
            if not isinstance(text, str):
                wanted = others | {x_setting.key: at_x, y_setting.key: at_y}
                text = "failed" if failed_at(comparison, wanted) else "not run"
            look: dict[str, Any] = {"facecolor": GREY, "edgecolor": "white"}
            if not is_known:
                look = {"facecolor": PALE, "edgecolor": "#d0d0d0", "hatch": "///", "linewidth": 0}
            axes.add_patch(Rectangle((place, row), 1, 1, **look))
            colour = "black" if is_known else FAINT
            axes.text(place + 0.5, row + 0.5, text, ha="center", va="center", color=colour)
    for text in axes.texts:
        text.set_fontsize(7.5 if "\n" in text.get_text() or text.get_color() == FAINT else 9)
    axes.tick_params(length=0, colors=INK, rotation=0)


def _scatter(axes: Axes, points: pd.DataFrame, x: Setting, y: Setting, norm: Normalize, palette: str) -> None:
    """Points where runs are: grey for networks that are mostly wrong, a cross where a run has no number."""
    known = points[points["known"]]
    look = {"edgecolor": "#777777", "s": 64, "legend": False, "ax": axes}
    grey, coloured = known[known["value"].isna()], known.dropna(subset=["value"])
    sns.scatterplot(grey, x=x.key, y=y.key, color=GREY, **look)
    if len(coloured):
        sns.scatterplot(coloured, x=x.key, y=y.key, hue="value", hue_norm=norm, palette=palette, **look)
    axes.plot(points[x.key][~points["known"]], points[y.key][~points["known"]], "x", color=FAINT, markersize=6)
    plain_axes(axes, grid="both")
    for values, set_scale in ((points[x.key], axes.set_xscale), (points[y.key], axes.set_yscale)):
        if min(values) > 0 and max(values) / min(values) > LOG_FROM:
            set_scale("log")


def _colour_bar(figure: Figure, grid: np.ndarray, column: Column, norm: Normalize, palette: str) -> None:
    """The scale to the right of the panels, with the metric and which end is better."""
    bar = figure.colorbar(ScalarMappable(norm, palette), ax=grid, shrink=0.9, pad=0.02)
    grey = "" if column.unit == "ms" else ",\ngrey is under half of the best accuracy"
    if column.unit == "%":
        bar.ax.set_yticks(*log_error_ticks(*bar.ax.get_ylim()))
        bar.ax.set_yticks([], minor=True)
        bar.ax.invert_yaxis()
        label = f"{column.words} (%): brighter is better{grey}"
    else:
        bar.ax.yaxis.set_major_formatter(lambda value, _: count(value))
        label = f"{column.heading}{': brighter is less' if column.better < 0 else ''}{grey}"
    bar.set_label(label, color=INK)
    bar.ax.tick_params(colors=INK)
    bar.outline.set_visible(False)
