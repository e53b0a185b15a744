"""Accuracy against latency, coloured by energy; the best trade-offs ringed, numbered and named."""

import textwrap

import matplotlib
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import AutoLocator, LogLocator, NullLocator

from respike.figures.curves import DPI, FAINT, INK, MARKERS, plain_axes
from respike.report.columns import count
from respike.report.comparison.gather import Comparison
from respike.report.comparison.points import Point, same_data
from respike.report.comparison.stretched import error, ticks
from respike.report.comparison.trade_off import useful, usefulness_floor
from respike.report.comparison.varied import DATA, Setting, shown

MOST_NAMED = 14


def trade_off_figure(comparison: Comparison) -> Figure | None:
    """One panel per data set; None where no useful point has accuracy, latency and energy.

    The accuracy axis is logarithmic in the error, so that 99 and 99.5 % stand as far apart as 98 and 99 %.
    """
    accuracy, late, spent = comparison.objectives
    everything = same_data(comparison.points)
    groups = {name: _drawn(points, comparison) for name, points in everything.items()}
    groups = {name: points for name, points in groups.items() if points}
    if not groups:
        return None
    marks = _marks(comparison)
    colours = _colours([point.mean(spent) for points in groups.values() for point in points])
    figure = Figure(figsize=(10.4, 5.0 * len(groups) + 0.6), dpi=DPI, layout="constrained")
    grid = figure.subplots(len(groups), 1, squeeze=False)[:, 0]
    for axes, (name, points) in zip(grid, groups.items(), strict=True):
        _panel(axes, points, comparison, colours, marks)
        axes.set_title(_title(name, everything[name], points, comparison), loc="left", fontsize=10, color=INK)
        _named(axes, points, comparison)
    bar = figure.colorbar(colours, ax=list(grid), location="left", shrink=0.8, pad=0.02, aspect=30)
    bar.set_label(f"{spent.heading}, brighter is less", color=INK)
    bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if isinstance(colours.norm, LogNorm) else AutoLocator())
    bar.ax.yaxis.set_major_formatter(lambda value, _: count(value))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.outline.set_visible(False)
    seeds = f"\n{comparison.seed_note()}" if comparison.seed_note() else ""
    title = f"Accurate, fast or frugal: {accuracy.words} against {late.words}, coloured by {spent.words}{seeds}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, color=INK)
    return figure


def _drawn(points: list[Point], comparison: Comparison) -> list[Point]:
    return [point for point in useful(points) if all(point.mean(m) is not None for m in comparison.objectives)]


def _title(data: str, points: list[Point], drawn: list[Point], comparison: Comparison) -> str:
    missing = len(points) - len(drawn)
    late = len(useful(points)) - len(drawn)
    reasons = [f"{missing - late} under {100 * usefulness_floor(points):.0f} % accuracy"] if missing > late else []
    reasons += [f"{late} lacking {_lacked(points, comparison)}"] if late else []
    return f"{data}; not drawn: {', '.join(reasons)}" if reasons else data


def _lacked(points: list[Point], comparison: Comparison) -> str:
    """Which of the three some useful point has no number for: "time to 98 % accuracy"."""
    return " or ".join(m.words for m in comparison.objectives if any(p.mean(m) is None for p in useful(points)))


def _marks(comparison: Comparison) -> tuple[Setting | None, dict[object, str]]:
    """A marker for each value of the first setting that is no number, where there are markers enough."""
    choices = [s for s in comparison.settings if not s.numeric and s.key != DATA and len(s.values) <= len(MARKERS)]
    return (choices[0], dict(zip(choices[0].values, MARKERS, strict=False))) if choices else (None, {})


def _colours(costs: list[float]) -> ScalarMappable:
    low, high = min(costs), max(costs)
    scale = LogNorm(low, high) if 0 < low < high else Normalize(low, high if high > low else low + 1)
    return ScalarMappable(scale, matplotlib.colormaps["viridis_r"])


def _panel(
    axes: Axes,
    points: list[Point],
    comparison: Comparison,
    colours: ScalarMappable,
    marks: tuple[Setting | None, dict[object, str]],
) -> None:
    accuracy, late, spent = comparison.objectives
    setting, shapes = marks
    for point in points:
        x, y = point.mean(late), error(point, accuracy)
        best = point in comparison.best
        axes.plot(
            x, y, shapes.get(point.values[setting.key], "o") if setting else "o",
            markersize=10 if best else 7, color=colours.to_rgba(point.mean(spent)), alpha=1 if best else 0.75,
            markeredgecolor="black" if best else "white", markeredgewidth=1.6 if best else 0.5, zorder=4 if best else 3,
        )  # fmt: skip
        if point.interval(accuracy) is not None:
            half = accuracy.scaled(point.interval(accuracy))
            up, down = min(half, 0.9 * y), half  # the logarithmic axis ends above an error of 0
            axes.errorbar(
                x, y, xerr=point.interval(late), yerr=[[up], [down]],
                fmt="none", ecolor=FAINT, elinewidth=1, zorder=2,
            )  # fmt: skip
    _stretched_axis(axes, [error(point, accuracy) for point in points])
    plain_axes(axes, grid="both")
    axes.set_xlim(0, 1.06 * max(point.mean(late) for point in points) or 1.0)
    axes.set_xlabel(f"{late.heading}: further left is faster", color=INK)
    axes.set_ylabel("final accuracy (%), stretched towards 100", color=INK)
    if setting:
        handles = [
            Line2D([], [], marker=mark, color="none", markerfacecolor=FAINT, markeredgecolor="none", label=shown(value))
            for value, mark in shapes.items()
        ]
        axes.add_artist(axes.legend(handles=handles, title=setting.label, loc="best", fontsize=8.5, title_fontsize=8.5))


def _stretched_axis(axes: Axes, errors: list[float]) -> None:
    axes.set_yscale("log")
    low, high = min(errors) / 1.25, min(100.0, max(errors) * 1.25)
    axes.set_ylim(high, low)
    axes.set_yticks(*ticks(low, high), minor=False)
    axes.set_yticks([], minor=True)


def _named(axes: Axes, points: list[Point], comparison: Comparison) -> None:
    """Numbers at the best points, from fast to slow, and what they are beside the panel."""
    accuracy, late, spent = comparison.objectives
    best = sorted((p for p in points if p in comparison.best), key=lambda p: (p.mean(late), -p.mean(accuracy)))
    lines = []
    for i, point in enumerate(best, start=1):
        at = point.mean(late), error(point, accuracy)
        axes.annotate(str(i), at, xytext=(6, 6), textcoords="offset points", fontsize=9, color="black", zorder=5)
        numbers = f"{accuracy.text(point.mean(accuracy))} %, {late.text(point.mean(late))} {late.unit or 'steps'}"
        numbers += f", {spent.text(point.mean(spent))} {spent.unit or 'spikes'}"
        name = textwrap.fill(comparison.name(point, [DATA]), 46, subsequent_indent="    ")
        lines.append(f"{i}  {name}\n    {numbers}")
    more = [f"... and {len(lines) - MOST_NAMED} more, see the table"] if len(lines) > MOST_NAMED else []
    text = "\n".join(
        [
            "Best trade-offs (ringed): no other is at least",
            "as good in all three and better in one",
            "",
            *lines[:MOST_NAMED],
            *more,
        ]
    )
    axes.annotate(
        text,
        (1.02, 1),
        xycoords="axes fraction",
        va="top",
        fontsize=8.5,
        color=INK,
        linespacing=1.3,
        annotation_clip=False,
    )
