"""A training: accuracy and loss after each epoch."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from respike.figures.style import DPI, INK, PALETTE, plain_axes

PARTS = {"train": "training, during the epoch", "val": "validation"}


def training_progress(history: Mapping[str, Sequence[float]], published: Sequence[float] | None = None) -> Figure:
    """Accuracy (left) and loss (right) after each epoch.

    history: columns of a training.csv, epoch and any of train_acc, val_acc (fractions), train_loss, val_loss. published:
    validation accuracies of epoch 1, 2, ... as fractions, drawn as open markers.
    Raises ValueError without an epoch.
    """
    if not history.get("epoch"):
        raise ValueError("no epoch to draw; expected at least one")
    figure = Figure(figsize=(8, 3.7), dpi=DPI, layout="constrained")
    accuracy, loss = figure.subplots(1, 2)
    _lines(accuracy, history, "acc", 100, "{:.2f} %")
    accuracy.set_ylabel("accuracy (%)", color=INK)
    if published:
        _published_epochs(accuracy, published)
    _lines(loss, history, "loss", 1, "{:.3g}")
    loss.set_ylabel("loss", color=INK)
    losses = [value for name in ("train_loss", "val_loss") for value in history.get(name, []) if value > 0]
    if losses and max(losses) > 20 * min(losses):
        loss.set_yscale("log")
    for axes in (accuracy, loss):
        plain_axes(axes, grid="both")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlabel("epoch", color=INK)
        last = max((max(line.get_xdata()) for line in axes.lines), default=1)
        if last == 1:  # a single point: without limits the ticks would be fractions of an epoch
            axes.set_xlim(0.5, 1.5)
        if axes.lines:
            axes.legend(
                frameon=False, labelcolor=INK, fontsize=9, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0
            )
    return figure


def _lines(axes: Axes, history: Mapping[str, Sequence[float]], kind: str, scale: float, number: str) -> None:
    """A line for each of train_<kind> and val_<kind> that was measured, with its last value in the legend."""
    for (part, name), colour in zip(PARTS.items(), PALETTE, strict=False):
        values = [scale * value for value in history.get(f"{part}_{kind}", [])]
        if values and not all(map(math.isnan, values)):
            label = f"{name}: {number.format(values[-1])}"
            axes.plot(history["epoch"], values, ".-", color=colour, linewidth=2, markersize=8, label=label)


def _published_epochs(axes: Axes, accuracies: Sequence[float]) -> None:
    values = [100 * accuracy for accuracy in accuracies]
    axes.plot(
        range(1, len(values) + 1), values, "o", markersize=5, color=INK, markerfacecolor="white", markeredgewidth=1.2,
        label=f"published validation, full width: {values[-1]:.2f} %", zorder=4,
    )  # fmt: skip
