"""Figures of a run or of several laid over each other. All fractions in, percent on the axes."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from respike.system.files import write_atomically

# Okabe and Ito's palette, told apart with any kind of colour vision; the line styles tell the next seven apart.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", (0, (1, 1)), (0, (5, 1, 1, 1)))
MARKERS = ("o", "s", "D", "^", "v")
INK, FAINT = "#333333", "#8a8a8a"
DPI = 100
FEW = 12  # points of a curve up to here are marked

Curve = Mapping[str, Sequence[float]]
Points = Sequence[tuple[float, float]]


def accuracy_over_time(
    curves: Mapping[str, Curve],
    reference: Mapping[str, Points] | None = None,
    ann: Mapping[str, float] | None = None,
) -> Figure:
    """Accuracy against simulated time, whole on the left and the top few points enlarged on the right.

    curves: label -> columns of a curves.csv (acc [fraction] against time_ms, or against step where times are missing).
    reference: label -> published points (time [ms], accuracy [fraction]), drawn as open markers.
    ann: label -> accuracy [fraction] of a ReLU network, a dashed line, in the curve's colour where the labels agree.
    Raises ValueError without curves.
    """
    return _two_panels(curves, "accuracy (%)", reference or {}, ann or {})


def accuracy_and_agreement(curve: Curve) -> Figure:
    """Accuracy of the spiking net and its agreement with the ReLU network (the same class named) against time.

    curve: columns of a curves.csv, acc and agreement as fractions; a net trained directly agrees with none, and its
    missing agreement is not drawn.
    """
    named = {"accuracy": curve}
    if all(math.isfinite(share) for share in curve.get("agreement", [math.nan])):
        named["agreement with the ReLU network"] = {**curve, "acc": curve["agreement"]}
    return _two_panels(named, "% of the test images", {}, {})


def firing_rates(rates: Mapping[str, float], unit: str = "Hz") -> Figure:
    """Mean firing rate per layer as labelled bars, first layer on top.

    rates: layer -> spikes per neuron and second (or per step, with another unit). Raises ValueError without layers.
    """
    if not rates:
        raise ValueError("no layer to draw; expected at least one firing rate")
    figure = Figure(figsize=(7, 1.1 + 0.36 * len(rates)), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(list(rates), list(rates.values()), height=0.62, color=PALETTE[0])
    axes.bar_label(bars, fmt=lambda rate: f"{rate:.3g}" if rate < 1000 else f"{rate:.0f}", padding=4, color=INK)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    plain_axes(axes, grid="x")
    axes.spines["left"].set(visible=True, color=FAINT)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"mean firing rate ({unit})", color=INK)
    return figure


def save(figure: Figure, path: Path | str) -> None:
    """Write a PNG at twice the screen's resolution; a reader meanwhile sees the old file or the new."""
    with write_atomically(path) as temporary:
        # Without matplotlib's version in the file, two versions that draw alike write the same bytes.
        figure.savefig(temporary, format="png", dpi=2 * DPI, facecolor="white", metadata={"Software": None})


def _two_panels(
    curves: Mapping[str, Curve], y_label: str, reference: Mapping[str, Points], ann: Mapping[str, float]
) -> Figure:
    if not curves:
        raise ValueError("no curve to draw; expected at least one")
    in_ms = all(_has_times(curve) for curve in curves.values())
    lines = {label: (curve["time_ms" if in_ms else "step"], _percent(curve["acc"])) for label, curve in curves.items()}
    levels = {label: 100 * accuracy for label, accuracy in ann.items()}
    marks = reference if in_ms else {}
    figure = Figure(figsize=(10, 4.3), dpi=DPI, layout="constrained")
    whole, top = figure.subplots(1, 2, sharex=True)
    for axes in (whole, top):
        _draw(axes, lines, marks, levels)
        plain_axes(axes, grid="both")
        axes.set_xlim(0, 1.02 * max(max(times) for times, _ in lines.values()))
        axes.set_xlabel("simulated time (ms)" if in_ms else "simulated steps", color=INK)
        if not in_ms:
            axes.xaxis.set_major_locator(MaxNLocator(nbins=9, integer=True))
    whole.set_ylim(0, 102)
    whole.set_ylabel(y_label, color=INK)
    low, high = _top_range([values[-1] for _, values in lines.values()], list(levels.values()))
    top.set_ylim(low, high)
    top.set_title(f"the top, from {low:g} % up", loc="left", fontsize=10, color=INK)
    whole.set_title("whole range", loc="left", fontsize=10, color=INK)
    handles, names = whole.get_legend_handles_labels()
    longest = max(map(len, names))
    columns = 1 if longest > 44 else 2 if longest > 28 else min(3, len(names))
    figure.legend(handles, names, loc="outside upper left", ncols=columns, frameon=False, labelcolor=INK)
    return figure


def _draw(
    axes: Axes,
    lines: Mapping[str, tuple[Sequence[float], list[float]]],
    marks: Mapping[str, Points],
    levels: Mapping[str, float],
) -> None:
    colours = {label: PALETTE[i % len(PALETTE)] for i, label in enumerate(lines)}
    for i, (label, (times, values)) in enumerate(lines.items()):
        dash = DASHES[i // len(PALETTE) % len(DASHES)]
        own = f" (dashed: ReLU network {levels[label]:.2f} %)" if label in levels else ""
        name = f"{label}: {values[-1]:.2f} %{own}"
        dots = "o" if len(times) <= FEW else None
        axes.plot(
            times, values, color=colours[label], linestyle=dash, linewidth=2, label=name, marker=dots, markersize=5
        )
    for label, level in levels.items():
        # A curve's own network shares its colour and its line of the legend ("_" keeps the second entry out).
        name = "_own" if label in lines else f"{label}: {level:.2f} %"
        axes.axhline(level, color=colours.get(label, FAINT), linestyle=(0, (6, 3)), linewidth=1.2, label=name, zorder=1)
    for i, (label, points) in enumerate(marks.items()):
        times, values = zip(*points, strict=True)
        axes.plot(
            times, _percent(values), MARKERS[i % len(MARKERS)],
            markersize=6, color=INK, markerfacecolor="white", markeredgewidth=1.3, label=label, zorder=4,
        )  # fmt: skip


def _top_range(finals: Sequence[float], levels: Sequence[float]) -> tuple[float, float]:
    """Limits in % that show every end within four points of the best, on half points below and above."""
    ends = [end for end in (*finals, *levels) if math.isfinite(end)] or [100.0]
    best = max(ends)
    lowest = min(end for end in ends if end >= best - 4)
    return max(0.0, math.floor(2 * (lowest - 1.5)) / 2), min(100.25, math.ceil(4 * (best + 0.1)) / 4)


def _has_times(curve: Curve) -> bool:
    times = curve.get("time_ms") or ()
    return bool(times) and all(math.isfinite(time) for time in times)


def _percent(fractions: Sequence[float]) -> list[float]:
    return [100 * fraction for fraction in fractions]


def plain_axes(axes: Axes, grid: str) -> None:
    """The look of every figure: no frame but the bottom, a faint grid along `grid` ("x", "y" or "both"), round ticks."""
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.grid(axis=grid, color="#e3e3e3", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, length=3, color=FAINT)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=9, steps=[1, 2, 5, 10]))
