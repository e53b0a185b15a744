"""bench.png: seconds of every row per work, and what ours costs against images and steps."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from respike.figures.style import DPI, FAINT, INK, PALETTE

Row = dict[str, Any]
OURS, PEERS = PALETTE[0], PALETTE[1]


def figure(rows: Sequence[Row]) -> Figure:
    """One panel per work with a dot per contender (and its range), and two small panels of ours for all works.

    Raises ValueError where no contender was timed.
    """
    timed = [row for row in rows if row["part"] == "simulate" and not row.get("reason")]
    if not timed:
        raise ValueError("no contender was timed; there is nothing to draw")
    works = list(dict.fromkeys(row["title"] for row in timed))
    drawn = Figure(figsize=(12, 5.0 + 0.35 * max(map(len, _by_work(timed, works)))), dpi=DPI, layout="constrained")
    tall, flat = drawn.subfigures(2, 1, height_ratios=(3, 2))
    floors = {row["title"]: row for row in rows if row["part"] == "floor" and not row.get("reason")}
    for axes, title, group in zip(
        tall.subplots(1, len(works), squeeze=False)[0], works, _by_work(timed, works), strict=True
    ):
        _dots(axes, title, group, floors.get(title))
    left, right = flat.subplots(1, 2)
    for axes, part, key, label in (
        (left, "cost against images", "images", "images"), (right, "cost against steps", "steps", "steps T"),
    ):  # fmt: skip
        points = [row for row in rows if row["part"] == part and not row.get("reason")]
        _curves(axes, points, key, label)
    return drawn


def _by_work(rows: Sequence[Row], works: Sequence[str]) -> list[list[Row]]:
    return [[row for row in rows if row["title"] == title] for title in works]


def _dots(axes: Axes, title: str, rows: Sequence[Row], floor: Row | None) -> None:
    for y, row in enumerate(rows):
        scale = row["seconds_per_10000"] / row["seconds"]
        colour = OURS if row["name"].startswith("ours") else PEERS
        axes.plot([row["seconds_min"] * scale, row["seconds_max"] * scale], [y, y], color=colour, linewidth=2)
        axes.plot(row["seconds_per_10000"], y, "o", color=colour, markersize=7)
        note = f"{row['seconds_per_10000']:.3g} s, {100 * row['accuracy']:.2f} %"
        axes.annotate(note, (row["seconds_max"] * scale, y), (8, 0), textcoords="offset points", va="center",
                      fontsize=8, color=INK)  # fmt: skip
    for kind, dash in (("fp32", "--"), ("bf16", ":")) if floor else ():
        axes.axvline(floor[kind], color=FAINT, linestyle=dash, linewidth=1.2, label=f"bare products, {kind}")
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows], color=INK)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(right=6 * max(row["seconds_per_10000"] for row in rows))  # room for the notes
    axes.set_xlabel("seconds per 10,000 images", color=INK, loc="right")
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    _plain(axes)
    if floor:
        axes.legend(loc="upper left", bbox_to_anchor=(0, -0.1), frameon=False, fontsize=8, labelcolor=INK)


def _curves(axes: Axes, points: Sequence[Row], key: str, label: str) -> None:
    for colour, title in zip(PALETTE, dict.fromkeys(row["title"] for row in points), strict=False):
        own = [row for row in points if row["title"] == title]
        per_image = [1000 * row["seconds"] / row["images"] for row in own]
        axes.plot([row[key] for row in own], per_image, "o-", color=colour, label=title.split(",")[0])
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel(label, color=INK)
    axes.set_ylabel("ms per image, ours", color=INK)
    if points:
        axes.legend(frameon=False, fontsize=8, labelcolor=INK)
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.xaxis.set_minor_formatter("")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.grid(axis="both", color="#e3e3e3", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, color=FAINT)
