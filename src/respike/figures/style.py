"""The style that all figures share: colours, axes, and how a figure is saved."""

from pathlib import Path
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter, MaxNLocator

from respike.system.files import write_atomically

# Okabe and Ito's palette, which can be told apart with any kind of colour vision, and a brown in place of its yellow
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8B5A2B")
INK, FAINT = "#333333", "#8a8a8a"
DPI = 100


def plain_axes(axes: Axes, grid: Literal["x", "y", "both"]) -> None:
    """No frame except the bottom line, a light grid along `grid`, ticks at round numbers."""
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.grid(axis=grid, color="#e3e3e3", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, length=3, color=FAINT)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=9, steps=[1, 2, 5, 10]))


def save(figure: Figure, path: Path | str) -> None:
    """Write a PNG at twice the screen's resolution, atomically. A $ in a text is a dollar sign, not a formula."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        if isinstance(axis.get_major_formatter(), LogFormatter):  # writes powers of ten as formulas
            for label in axis.get_ticklabels(which="both"):
                label.set_parse_math(True)
    with write_atomically(path) as temporary:
        # Without matplotlib's version in the file, two versions that draw alike write the same bytes.
        figure.savefig(temporary, format="png", dpi=2 * DPI, facecolor="white", metadata={"Software": None})
