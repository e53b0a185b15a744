"""The figure of trade-offs: accuracy against latency, coloured by energy where it differs."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import AutoLocator, LogLocator, MaxNLocator, NullLocator

from respike.figures.curves import MARKERS
from respike.figures.style import DPI, FAINT, INK, plain_axes
from respike.report.columns import count, in_steps
from respike.report.comparison.compare import Comparison
from respike.report.comparison.trade_off import useful, useful_from
from respike.report.comparison.varied import DATA, Setting

MOST_NAMED = 14
HIDES = 0.015  # distance, as a share of the panel, at which a best point hides another
LINE = 0.155  # height of a line of text [in]
TICKS = (0.0, 50.0, 80.0, 90.0, 95.0, 98.0, 99.0, 99.5, 99.8, 99.9, 99.95)  # % accuracy


def trade_off_figure(comparison: Comparison) -> Figure | None:
    """Accuracy against latency, coloured by energy where it differs, best points ringed, numbered, named; a panel per data set.

    None where no useful point has all three. The accuracy axis is logarithmic in the error, so that 99 and 99.5 % are as
    far apart as 98 and 99 %.
    """
    accuracy, late, spent = comparison.objectives
    points = comparison.points.assign(
        error=comparison.errors(),
        useful=useful(comparison.means, comparison.points[DATA]),
        late=comparison.means[late.key],
        spent=comparison.means[spent.key],
    )
    points["drawn"] = points["useful"] & points[["error", "late", "spent"]].notna().all(axis=1)
    drawn = points[points["drawn"]]
    if drawn.empty:
        return None
    low, high = drawn["spent"].min(), drawn["spent"].max()
    alike = spent.text(low) == spent.text(high)
    if alike:
        points["spent"] = low
    groups = {name: group for name, group in points.groupby(DATA, sort=False) if group["drawn"].any()}
    norm = Normalize(low, low + 1) if alike else _norm(drawn["spent"])
    setting, markers = _markers(comparison)
    best = {
        name: group[group["drawn"] & group["best"]].sort_values(["late", "error"]) for name, group in groups.items()
    }
    texts = {name: _names(comparison, list(rows.index)) for name, rows in best.items()}
    heights = [max(5.0, LINE * (text.count("\n") + 4)) for text in texts.values()]
    figure = Figure(figsize=(10.4, sum(heights) + 0.6), dpi=DPI, layout="constrained")
    grid = figure.subplots(len(groups), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (name, group) in zip(grid, groups.items(), strict=True):
        _panel(axes, group[group["drawn"]], comparison, norm, setting, markers)
        axes.set_title(_title(str(name), group, comparison), loc="left", fontsize=10, color=INK)
        _write_best(axes, best[name], texts[name])
    if not alike:
        _colour_bar(figure, list(grid), norm, f"{spent.heading}, brighter is less")
    if setting:
        handles = [
            Line2D([], [], marker=marker, color="none", markerfacecolor=FAINT, markeredgecolor="none", label=value)
            for value, marker in markers.items()
        ]
        figure.legend(
            handles=handles, title=setting.label, loc="outside lower center", ncols=len(handles), frameon=False,
            fontsize=8.5, title_fontsize=8.5,
        )  # fmt: skip
    seeds = f"\n{comparison.seed_note()}" if comparison.seed_note() else ""
    same = f"; {spent.words}: {spent.text(low)} {spent.unit}".rstrip() + " at every point"
    title = f"{accuracy.figure_title} against {late.words}{same if alike else f', coloured by {spent.words}'}{seeds}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, color=INK)
    return figure


def _title(data: str, points: pd.DataFrame, comparison: Comparison) -> str:
    useless = int((~points["useful"]).sum())
    missing = int((points["useful"] & ~points["drawn"]).sum())
    floor = useful_from(comparison.means, comparison.points[DATA])[points.index[0]]
    means = comparison.means.loc[points.index[points["useful"]]]
    lacked = " or ".join(o.words for o in comparison.objectives if means[o.key].isna().any())
    reasons = [f"{useless} under {100 * floor:.0f} % accuracy"] if useless else []
    reasons += [f"{missing} without {lacked}"] if missing else []
    return f"{data}; not drawn: {', '.join(reasons)}" if reasons else data


def _markers(comparison: Comparison) -> tuple[Setting | None, Mapping[Any, str]]:
    """A marker for each value of the first setting that is not numeric, if it has few enough values."""
    choices = [s for s in comparison.settings if not s.numeric and s.key != DATA and len(s.values) <= len(MARKERS)]
    if not choices:
        return None, {}
    return choices[0], {choices[0].shown(v): marker for v, marker in zip(choices[0].values, MARKERS, strict=False)}


def _norm(costs: pd.Series) -> Normalize:
    low, high = costs.min(), costs.max()
    return LogNorm(low, high) if 0 < low < high else Normalize(low, high if high > low else low + 1)


def _colour_bar(figure: Figure, grid: list[Axes], norm: Normalize, label: str) -> None:
    bar = figure.colorbar(ScalarMappable(norm, "viridis_r"), ax=grid, location="left", shrink=0.8, pad=0.02, aspect=30)
    bar.set_label(label, color=INK)
    bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if isinstance(norm, LogNorm) else AutoLocator())
    bar.ax.yaxis.set_major_formatter(lambda value, _: count(value))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.outline.set_visible(False)


def _panel(
    axes: Axes,
    points: pd.DataFrame,
    comparison: Comparison,
    norm: Normalize,
    setting: Setting | None,
    markers: Mapping[Any, str],
) -> None:
    accuracy, late, _ = comparison.objectives
    halves = comparison.halves.loc[points.index]
    up = np.minimum(100 * halves[accuracy.key], 0.9 * points["error"])  # the logarithmic axis has no error of 0
    axes.errorbar(
        points["late"], points["error"], xerr=halves[late.key], yerr=[up, 100 * halves[accuracy.key]],
        fmt="none", ecolor=FAINT, elinewidth=1, zorder=2,
    )  # fmt: skip
    looks = (
        (False, {"s": 49, "alpha": 0.75, "edgecolor": "white", "linewidth": 0.5, "zorder": 3}),
        (True, {"s": 150, "edgecolor": "black", "linewidth": 1.6, "zorder": 4}),
    )
    for best, look in looks:
        chosen = points[points["best"] == best]
        if chosen.empty:
            continue
        sns.scatterplot(
            chosen, x="late", y="error", hue="spent", hue_norm=norm, palette="viridis_r", legend=False, ax=axes,
            style=chosen[setting.key].map(setting.shown) if setting else None, markers=dict(markers) or True, **look,
        )  # fmt: skip
    _log_error_axis(axes, points["error"])
    plain_axes(axes, grid="both")
    axes.set_xlim(0, 1.06 * points["late"].max() or 1.0)
    axes.set_xlabel(f"{late.heading}: further left is faster", color=INK)
    axes.set_ylabel("final accuracy (%), logarithmic in the error", color=INK)


def _log_error_axis(axes: Axes, errors: pd.Series) -> None:
    axes.set_yscale("log")
    low, high = errors.min() / 1.25, min(100.0, errors.max() * 1.25)
    axes.set_ylim(high, low)
    axes.set_yticks(*log_error_ticks(low, high), minor=False)
    axes.set_yticks([], minor=True)


def _names(comparison: Comparison, best: Sequence[int]) -> str:
    """The best points by number, their settings and their metrics."""
    lines = ["Best trade-offs (ringed): no other is at least", "as good in all three and better in one", ""]
    for i, point in enumerate(best[:MOST_NAMED], start=1):
        name = textwrap.fill(comparison.name(point, [DATA]), 46, subsequent_indent="    ")
        lines.append(f"{i}  {name}\n    {_numbers(comparison, point)}")
    if len(best) > MOST_NAMED:
        lines.append(f"... and {len(best) - MOST_NAMED} more, see the table")
    return "\n".join(lines)


def _write_best(axes: Axes, best: pd.DataFrame, text: str) -> None:
    """Numbers in the best points, from fast to slow, and their names to the right of the panel.

    Points that hide each other share a text.
    """
    to_share = axes.transScale + axes.transLimits
    written: list[tuple[Any, Any, list[str]]] = []  # place in the panel, point, numbers
    for i, point in enumerate(zip(best["late"], best["error"], strict=True), start=1):
        place = to_share.transform(point)
        near = next((numbers for other, _, numbers in written if abs(place - other).max() < HIDES), None)
        if near is None:
            written.append((place, point, [str(i)]))
        else:
            near.append(str(i))
    places = np.array([place for place, *_ in written]).reshape(-1, 2)
    for place, point, numbers in written:
        axes.annotate(
            ", ".join(numbers), point, xytext=(0, 0) if len(numbers) == 1 else _free_side(place, places),
            textcoords="offset points",
            ha="center", va="center", fontsize=8, fontweight="bold", zorder=5,
            path_effects=[withStroke(linewidth=2, foreground="white")],
        )  # fmt: skip
    axes.annotate(
        text, (1.02, 1), xycoords="axes fraction", va="top", fontsize=8.5, color=INK, linespacing=1.3,
        annotation_clip=False,
    )  # fmt: skip


def _free_side(place: Any, others: Any) -> tuple[int, int]:
    """Where the label of a point goes [points]: above, below, right or left of it, within the panel and not on another."""
    sides = {(0, 14): (0.0, 0.045), (0, -14): (0.0, -0.045), (24, 0): (0.05, 0.0), (-24, 0): (-0.05, 0.0)}
    for offset, share in sides.items():
        away = np.abs(others - (place + share))
        if np.all((place + share > 0.03) & (place + share < 0.97)) and not (away < (0.045, 0.04)).all(axis=1).any():
            return offset
    return next(iter(sides))


def _numbers(comparison: Comparison, point: int) -> str:
    accuracy, late, spent = comparison.objectives
    means = comparison.means.loc[point]
    time = late.text(means[late.key])
    return (
        f"{accuracy.text(means[accuracy.key])} %, {f'{time} {late.unit}' if late.unit else in_steps(time)}, "
        f"{spent.text(means[spent.key])} {spent.unit or 'spikes'}"
    )


def log_error_ticks(low: float, high: float) -> tuple[list[float], list[str]]:
    """Errors from `low` to `high` to mark, and the accuracies to write there; round ones even in a narrow range."""
    marked: Sequence[float] = [tick for tick in TICKS if low <= 100 - tick <= high]
    if len(marked) < 3:
        inside = MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(100 - high, 100 - low)
        marked = [float(tick) for tick in inside if low <= 100 - tick <= high]
    return [100 - tick for tick in marked], [f"{tick:g}" for tick in marked]
