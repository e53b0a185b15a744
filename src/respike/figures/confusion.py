"""Confusion matrices after some steps, and as an animation over all steps. T steps, B images, C classes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from respike.figures.style import DPI, INK
from respike.metrics.confusion import confusion, row_shares
from respike.system.files import write_atomically

READABLE = 20  # up to this number of classes, rows are named and cells are annotated
FRAMES = 40
FRAME_MS, LAST_FRAME_MS = 120, 2000
COLOURS, FILM_DPI = 32, 80
LEAST, FILM_LEAST = 0.05, 5  # percent below which a cell is not annotated; drawing text takes most of a frame's time


def chosen_steps(steps: int, shares: Sequence[float] = (0.125, 0.25, 0.5, 1.0)) -> list[int]:
    """Steps, counted from 1, at these shares of all steps: 5, 10, 20 and 40 of 40."""
    return sorted({max(1, round(steps * share)) for share in shares})


def confusion_charts(charts: Mapping[str, Tensor], classes: Sequence[str]) -> Figure:
    """Row-normalized confusion matrices, two per line. charts: title -> shares (C, C), one row per true class.

    Raises ValueError without charts.
    """
    if not charts:
        raise ValueError("no chart to draw; expected at least one")
    columns = min(2, len(charts))
    rows = -(-len(charts) // columns)
    figure = Figure(figsize=(4.4 * columns, 4.4 * rows), dpi=DPI, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (title, shares) in zip(panels, charts.items(), strict=False):
        _heat_map(axes, shares, classes, LEAST)
        axes.set_title(title, fontsize=11, color=INK)
    for axes in panels[len(charts) :]:
        axes.set_axis_off()
    return figure


def save_confusion_film(
    predicted: Tensor, labels: Tensor, classes: Sequence[str], path: Path, read_from: int = 0
) -> None:
    """Write a GIF of the confusion matrix after each step, or after FRAMES steps at even distances if there are more.

    predicted: (T, B); labels: (B,). read_from: the first so many steps have no class. The file is written atomically.
    """
    steps = np.unique(
        np.linspace(read_from + 1, len(predicted), min(FRAMES, len(predicted) - read_from)).round().astype(int)
    )
    figure = Figure(figsize=(4.7, 4.6), dpi=FILM_DPI, layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.subplots()
    _heat_map(axes, _shares(predicted[read_from], labels, classes), classes, FILM_LEAST)
    title = axes.set_title(" ", fontsize=11, color=INK)
    canvas.draw()
    figure.set_layout_engine("none")  # the layout is computed once; frames differ only in what the axes show
    frames = []
    for step in steps:
        shares = _shares(predicted[step - 1], labels, classes)
        axes.collections[0].set_array(shares.numpy())
        for text, share in zip(axes.texts, shares.flatten().tolist(), strict=bool(axes.texts)):
            text.set_text(_cell(share, FILM_LEAST))
            text.set_color(_text_colour(share))
        accuracy = float((predicted[step - 1].long() == labels.long()).double().mean())
        title.set_text(f"step {step} of {len(predicted)}: {percent(accuracy)}")
        canvas.draw()
        frames.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]).quantize(COLOURS))
    durations = [FRAME_MS] * (len(frames) - 1) + [LAST_FRAME_MS]
    with write_atomically(path) as temporary:
        frames[0].save(temporary, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)


def percent(share: float) -> str:
    """A share in percent, with two decimals: not 100.00 unless it is all."""
    return f"{100 * share if share >= 1 else min(100 * share, 99.99):.2f} %"


def _shares(predicted: Tensor, labels: Tensor, classes: Sequence[str]) -> Tensor:
    return row_shares(confusion(labels, predicted, len(classes)))


def _heat_map(axes: Axes, shares: Tensor, classes: Sequence[str], least: float) -> None:
    """Shares (C, C) as colours; up to READABLE classes, each cell also as a number in percent."""
    readable = len(classes) <= READABLE
    names = [name if len(name) <= 10 else name[:9] + "…" for name in classes] if readable else []
    sns.heatmap(
        shares.numpy(), ax=axes, vmin=0, vmax=1, cmap="Blues", square=True, cbar=False,
        annot=np.vectorize(lambda share: _cell(share, least), otypes=[object])(shares.numpy()) if readable else None,
        fmt="", annot_kws={"fontsize": 8}, xticklabels=False, yticklabels=False,
    )  # fmt: skip
    # Names may hold a $, which would begin a formula.
    axes.set_xticks(np.arange(len(names)) + 0.5, names, parse_math=False)
    axes.set_yticks(np.arange(len(names)) + 0.5, names, parse_math=False)
    for text, share in zip(axes.texts, shares.flatten().tolist(), strict=False):
        text.set_color(_text_colour(share))
    axes.set_xlabel("predicted class", color=INK)
    axes.set_ylabel("true class", color=INK)
    axes.tick_params(length=0, colors=INK, labelsize=9)
    axes.tick_params(axis="y", rotation=0)
    axes.tick_params(axis="x", rotation=90 if max(map(len, names), default=0) > 3 else 0)


def _cell(share: float, least: float) -> str:
    """A share in percent with at most one decimal; "" below `least` percent. What is not all is not rounded to 100."""
    shown = 100 * share if share >= 1 else min(100 * share, 99.9)
    return f"{shown:.1f}".removesuffix(".0") if shown >= least else ""


def _text_colour(share: float) -> str:
    return "white" if share > 0.55 else INK
