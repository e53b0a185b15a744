"""Which class is taken for which, after some steps and as a film over all of them. T steps, B images, C classes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.text import Text
from PIL import Image
from torch import Tensor

from respike.figures.curves import DPI, INK
from respike.metrics.confusion import confusion, row_shares
from respike.system.files import write_atomically

READABLE = 20  # classes up to here are named and numbered
FRAMES = 40
FRAME_MS, HOLD_MS = 120, 2000  # of each step, and of the last
COLOURS, FILM_DPI = 32, 80
FILM_LEAST = 5  # percent; text is what takes the time


def chosen_steps(steps: int, shares: Sequence[float] = (0.125, 0.25, 0.5, 1.0)) -> list[int]:
    """Steps from 1 at these shares of all: 5, 10, 20 and 40 of 40."""
    return sorted({max(1, round(steps * share)) for share in shares})


def confusion_charts(charts: Mapping[str, Tensor], classes: Sequence[str]) -> Figure:
    """Row-normalized charts side by side, two to a line. charts: title -> shares (C, C), rows the true classes.

    Raises ValueError without charts.
    """
    if not charts:
        raise ValueError("no chart to draw; expected at least one")
    columns = min(2, len(charts))
    rows = -(-len(charts) // columns)
    figure = Figure(figsize=(4.7 * columns, 4.6 * rows), dpi=DPI, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (title, shares) in zip(panels, charts.items(), strict=False):
        _chart(axes, shares, classes, title)
    for axes in panels[len(charts) :]:
        axes.set_axis_off()
    return figure


def save_confusion_film(predicted: Tensor, labels: Tensor, classes: Sequence[str], path: Path) -> None:
    """Write a GIF of the chart after each step, or after FRAMES of them where there are more.

    predicted: (T, B); labels: (B,). A reader meanwhile sees the old file or the new.
    """
    steps = np.unique(np.linspace(1, len(predicted), min(FRAMES, len(predicted))).round().astype(int))
    figure = Figure(figsize=(4.7, 4.6), dpi=FILM_DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    picture, cells, title = _chart(figure.subplots(), _shares(predicted[0], labels, classes), classes, " ")
    canvas.draw()
    figure.set_layout_engine("none")  # laid out once: the frames differ in what the axes hold
    frames = []
    for step in steps:
        shares = _shares(predicted[step - 1], labels, classes)
        picture.set_data(shares)
        _write_cells(cells, shares, least=FILM_LEAST)
        accuracy = float((predicted[step - 1].long() == labels.long()).double().mean())
        title.set_text(f"step {step} of {len(predicted)}: {100 * accuracy:.2f} %")
        canvas.draw()
        frames.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]).quantize(COLOURS))
    durations = [FRAME_MS] * (len(frames) - 1) + [HOLD_MS]
    with write_atomically(path) as temporary:
        frames[0].save(temporary, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)


def _shares(predicted: Tensor, labels: Tensor, classes: Sequence[str]) -> Tensor:
    return row_shares(confusion(labels, predicted, len(classes)))


def _chart(
    axes: Axes, shares: Tensor, classes: Sequence[str], title: str
) -> tuple[AxesImage, dict[tuple[int, int], Text], Text]:
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xlabel("class named", color=INK)
    axes.set_ylabel("true class", color=INK)
    axes.tick_params(length=0, colors=INK)
    axes.spines[:].set_visible(False)
    cells: dict[tuple[int, int], Text] = {}
    if len(classes) <= READABLE:
        names = [name if len(name) <= 10 else name[:9] + "…" for name in classes]
        long = max(map(len, names)) > 3
        axes.set_xticks(range(len(names)), names, fontsize=8, rotation=90 if long else 0)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        cells = {
            (i, j): axes.text(j, i, "", ha="center", va="center", fontsize=7)
            for i in range(len(names))
            for j in range(len(names))
        }
        _write_cells(cells, shares)
    return picture, cells, axes.set_title(title, fontsize=11, color=INK)


def _write_cells(cells: Mapping[tuple[int, int], Text], shares: Tensor, least: float = 0.05) -> None:
    """Percent in each cell, one digit behind the point; nothing below `least`."""
    for (i, j), cell in cells.items():
        percent = 100 * float(shares[i, j])
        cell.set_text(f"{percent:.1f}".removesuffix(".0") if percent >= least else "")
        cell.set_color("white" if percent > 55 else INK)
