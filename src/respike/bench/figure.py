"""bench.png: the time of every row for each workload, and the cost of our simulation against images and steps."""

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from respike.bench.table import accuracies_of_all_images
from respike.figures.style import DPI, FAINT, INK, PALETTE

OURS, PEERS = PALETTE[0], PALETTE[1]


def figure(frame: pd.DataFrame) -> Figure:
    """A panel per workload with a dot per contender and its range, and two panels with cost curves.

    frame: of `table.to_frame`. Raises ValueError if no contender was timed.
    """
    measured = accuracies_of_all_images(frame[frame.reason.isna()])
    timed = measured[measured.part == "simulate"]
    if timed.empty:
        raise ValueError("no contender was timed; there is nothing to draw")
    workloads = list(timed.groupby("title", sort=False))
    floors = measured[measured.part == "floor"]
    height = 5.0 + 0.35 * max(len(rows) for _, rows in workloads)
    drawn = Figure(figsize=(12, height), dpi=DPI, layout="constrained")
    grid = drawn.add_gridspec(2, 1, height_ratios=(3, 2))
    above, below = drawn.add_subfigure(grid[0]), drawn.add_subfigure(grid[1])
    for axes, (title, rows) in zip(above.subplots(1, len(workloads), squeeze=False)[0], workloads, strict=True):
        _times(axes, rows.reset_index(drop=True))
        axes.set_title(str(title), loc="left", fontsize=10, color=INK)
        _floor_lines(axes, floors[floors.title == title])
    left, right = below.subplots(1, 2)
    _cost(left, measured[measured.part == "cost against images"], "images", "images")
    _cost(right, measured[measured.part == "cost against steps"], "steps", "steps T")
    return drawn


def _times(axes: Axes, rows: pd.DataFrame) -> None:
    """rows: of one workload, with index 0, 1, ..."""
    scale = rows.seconds_per_10000 / rows.seconds
    colours = [OURS if name.startswith("ours") else PEERS for name in rows.name]
    axes.hlines(rows.index, rows.seconds_min * scale, rows.seconds_max * scale, colors=colours, linewidth=2)
    axes.scatter(rows.seconds_per_10000, rows.index, s=49, c=colours, zorder=2)
    for y, (seconds, accuracy, end) in enumerate(
        zip(rows.seconds_per_10000, rows.accuracy, rows.seconds_max * scale, strict=True)
    ):
        said = f"{seconds:.3g} s" + (f", {100 * accuracy:.2f} %" if pd.notna(accuracy) else "")
        axes.annotate(said, (end, y), (8, 0), textcoords="offset points", va="center", fontsize=8, color=INK,
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})  # fmt: skip
    axes.set_yticks(rows.index, rows.name, color=INK)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(right=6 * rows.seconds_per_10000.max())  # room for the texts
    axes.set_xlabel("seconds per 10,000 images", color=INK, loc="right")
    _style(axes)


def _floor_lines(axes: Axes, floor: pd.DataFrame) -> None:
    """floor: one row, or none if the products could not be timed."""
    for dtype, dash in (("fp32", "--"), ("bf16", ":")):
        for seconds in floor[dtype]:
            axes.axvline(seconds, color=FAINT, linestyle=dash, linewidth=1.2, label=f"bare products, {dtype}")
    if len(floor):
        axes.legend(loc="upper left", bbox_to_anchor=(0, -0.1), frameon=False, fontsize=8, labelcolor=INK)


def _cost(axes: Axes, points: pd.DataFrame, column: str, label: str) -> None:
    curves = points.assign(network=points.title.str.split(",").str[0], ms=1000 * points.seconds / points.images)
    if len(curves):
        palette = list(PALETTE[: curves.network.nunique()])
        sns.lineplot(curves, x=column, y="ms", hue="network", marker="o", palette=palette, ax=axes)
        axes.legend(frameon=False, fontsize=8, labelcolor=INK)
    axes.set_xscale("log")
    axes.set_yscale("log")  # a cost in proportion to the steps is a straight line
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
    axes.set_xlabel(label, color=INK)
    axes.set_ylabel("ms per image, ours", color=INK)
    _style(axes)


def _style(axes: Axes) -> None:
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.xaxis.set_minor_formatter("")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.grid(axis="both", color="#e3e3e3", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, color=FAINT)
