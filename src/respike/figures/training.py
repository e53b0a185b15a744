"""What grows: output spikes over the steps of one image, accuracy and loss over the epochs of a training."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from respike.figures.curves import DPI, FAINT, INK, PALETTE, plain_axes
from respike.simulate.record import predict


def output_counts(counts: Tensor, label: int, classes: Sequence[str], name: str) -> Figure:
    """Spikes of each output neuron up to each step, and below them the class they name.

    counts: integers (T, C). The line of the true class is blue; that of another class named in the end is orange.
    """
    steps, named = range(1, len(counts) + 1), predict(counts).tolist()
    figure = Figure(figsize=(7, 4.6), dpi=DPI, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1.5])
    bold = {named[-1]: PALETTE[1]} | {label: PALETTE[0]}
    for c in sorted(range(len(classes)), key=lambda c: c in bold):
        values, role = counts[:, c].tolist(), "true class" if c == label else "class named in the end"
        style = {"color": bold[c], "linewidth": 2.2, "label": f"{classes[c]}, {role}"} if c in bold else {}
        above.plot(steps, values, **({"color": FAINT, "linewidth": 1, "label": f"_{classes[c]}"} | style))
    others = sorted(((int(counts[-1, c]), classes[c]) for c in range(len(classes)) if c not in bold), reverse=True)
    for height in sorted({count for count, _ in others if count}):
        above.annotate(
            ", ".join(name for count, name in others if count == height), (len(counts), height),
            xytext=(5, 0), textcoords="offset points", va="center", fontsize=8, color=INK,
        )  # fmt: skip
    above.plot([], [], color=FAINT, linewidth=1, label="other classes")
    above.legend(frameon=False, labelcolor=INK, loc="upper left")
    above.set_ylabel("output spikes so far", color=INK)
    above.set_title(name, loc="left", fontsize=10, color=INK)
    right = [step for step, c in zip(steps, named, strict=True) if c == label]
    wrong = [step for step, c in zip(steps, named, strict=True) if c != label]
    for where, colour in ((right, PALETTE[0]), (wrong, PALETTE[1])):
        below.plot(where, [named[step - 1] for step in where], "s", markersize=4, color=colour)
    shown = sorted({*named, label})
    below.set_yticks(shown, [classes[c] for c in shown])
    below.set_ylim(min(shown) - 0.7, max(shown) + 0.7)
    below.set_ylabel("class named", color=INK)
    below.set_xlabel("simulated steps", color=INK)
    for axes in (above, below):
        plain_axes(axes, grid="both")
    return figure


def training_progress(history: Mapping[str, Sequence[float]], published: Sequence[float] | None = None) -> Figure:
    """Accuracy (left) and loss (right) after each epoch.

    history: columns of a training.csv, epoch and any of train_acc, val_acc (fractions), train_loss, val_loss. published:
    validation accuracies of epoch 1, 2, ... as fractions, drawn as open markers.
    Raises ValueError without an epoch.
    """
    if not history.get("epoch"):
        raise ValueError("no epoch to draw; expected at least one")
    figure = Figure(figsize=(10, 3.6), dpi=DPI, layout="constrained")
    for axes, kind, scale in zip(figure.subplots(1, 2), ("acc", "loss"), (100, 1), strict=True):
        for part, colour, words in (
            ("train", PALETTE[0], "training, during the epoch"),
            ("val", PALETTE[1], "validation"),
        ):
            values = [scale * value for value in history.get(f"{part}_{kind}", [])]
            if values and not all(map(math.isnan, values)):
                last = f"{values[-1]:.2f} %" if kind == "acc" else f"{values[-1]:.3g}"
                axes.plot(history["epoch"], values, ".-", color=colour, linewidth=2, label=f"{words}: {last}")
        if published and kind == "acc":
            _published_epochs(axes, published)
        plain_axes(axes, grid="both")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("epoch", color=INK)
        axes.set_ylabel("accuracy (%)" if kind == "acc" else "loss", color=INK)
        if axes.lines:
            axes.legend(frameon=False, labelcolor=INK)
    losses = [value for name in ("train_loss", "val_loss") for value in history.get(name, []) if value > 0]
    if losses and max(losses) > 20 * min(losses):
        figure.axes[1].set_yscale("log")
    return figure


def _published_epochs(axes: Axes, accuracies: Sequence[float]) -> None:
    values = [100 * accuracy for accuracy in accuracies]
    axes.plot(
        range(1, len(values) + 1), values, "o", markersize=5, color=INK, markerfacecolor="white", markeredgewidth=1.2,
        label=f"published validation, full width: {values[-1]:.2f} %", zorder=4,
    )  # fmt: skip
