"""What one setting does: accuracy, latency and spikes at each of its values, where there are not two axes for a map."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from respike.figures.curves import DPI, INK, PALETTE, plain_axes
from respike.report.comparison.gather import Comparison, panels
from respike.report.comparison.measures import Measure
from respike.report.comparison.points import Point
from respike.report.comparison.varied import Setting, shown

MOST_LINES = 7
MOST_TICKS = 9


def effect_figure(comparison: Comparison, setting: Setting, measures: Sequence[Measure]) -> Figure:
    """A panel for each measure, a line for each choice of the other settings; bars are 95 % intervals over seeds.

    Values stand at equal distances: they are choices, and thresholds or rates mostly grow by factors.
    """
    found = list(panels(comparison, (setting.key,)).items())
    figure = Figure(figsize=(3.6 * len(measures) + 0.4, 4.0), dpi=DPI, layout="constrained")
    grid = figure.subplots(1, len(measures), squeeze=False)[0]
    for axes, measure in zip(grid, measures, strict=True):
        for (name, points), colour in zip(found[:MOST_LINES], PALETTE, strict=False):
            _line(axes, points, setting, measure, name, colour)
        every = math.ceil(len(setting.values) / MOST_TICKS)
        axes.set_xticks(range(0, len(setting.values), every), [shown(value) for value in setting.values[::every]])
        axes.set_xlim(-0.4, len(setting.values) - 0.6)
        axes.set_xlabel(setting.label, color=INK)
        axes.set_title(measure.heading, loc="left", fontsize=10, color=INK)
    if len(found) > 1:
        handles, names = grid[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower left", ncols=min(3, len(names)), frameon=False, labelcolor=INK)
    notes = [comparison.seed_note()] if comparison.seed_note() else []
    notes += [f"the first {MOST_LINES} of {len(found)} combinations"] if len(found) > MOST_LINES else []
    aside = f" ({'; '.join(notes)})" if notes else ""
    title = f"What the {setting.bare} does, {comparison.measured_on()}{aside}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, color=INK)
    return figure


def _line(axes: Axes, points: Sequence[Point], setting: Setting, measure: Measure, name: str, colour: str) -> None:
    known = [(setting.values.index(p.values[setting.key]), p) for p in points if p.mean(measure) is not None]
    if known:
        axes.errorbar(
            [at for at, _ in known],
            [measure.scaled(point.mean(measure)) for _, point in known],
            yerr=[measure.scaled(point.interval(measure) or 0.0) for _, point in known],
            fmt="o-" if setting.numeric else "o", color=colour, capsize=3, markersize=6, linewidth=1.6, label=name or "_",
        )  # fmt: skip
    ticks = axes.get_xticks()
    plain_axes(axes, grid="y")
    axes.set_xticks(ticks)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}" if abs(value) < 1000 else f"{value:,.0f}")
