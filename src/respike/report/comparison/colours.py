"""One colour scale for all panels of a map; brighter is better, accuracies by the logarithm of the error."""

from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from respike.figures.curves import INK
from respike.report.columns import count
from respike.report.comparison.measures import Measure
from respike.report.comparison.stretched import ticks

LOG_FROM = 20.0  # a ratio of largest to smallest from which equal ratios get equal steps of colour


def colours_of(measure: Measure, values: Sequence[float]) -> ScalarMappable:
    """A perceptually uniform scale over the values: errors in % for an accuracy, else in the measure's unit."""
    reverse = measure.better < 0 or _by_error(measure)
    return ScalarMappable(_scale(measure, values), matplotlib.colormaps["viridis_r" if reverse else "viridis"])


def _by_error(measure: Measure) -> bool:
    return measure.unit == "%"


def _scale(measure: Measure, values: Sequence[float]) -> Normalize:
    low, high = (min(values), max(values)) if values else (1.0, 2.0)
    if low >= high:
        low, high = (0.9 * low, 1.1 * low) if low > 0 else (0.0, 1.0)
    logarithmic = low > 0 and (_by_error(measure) or high / low > LOG_FROM)
    return LogNorm(low, high) if logarithmic else Normalize(low, high)


def colour_bar(figure: Figure, axes: Any, colours: ScalarMappable, measure: Measure) -> None:
    """The scale beside the panels, with the measure and which end is better."""
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
