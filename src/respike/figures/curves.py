"""Accuracy over time, of one run or of several. Arguments are fractions, axes are in percent."""

import math
import textwrap
from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from respike.figures.style import DPI, FAINT, INK, PALETTE, plain_axes
from respike.metrics.interval import half_interval

DASHES = ("-", (0, (1, 1)), (0, (5, 1, 1, 1)))  # the curves beyond the palette's colours differ in their dashes
MARKERS = ("o", "s", "D", "^", "v")
ALL_MARKERS = (*MARKERS, "P", "X", "<", ">", "p", "h", "*", "d", "8")
TITLE_WIDTH = 108  # characters of a line
TOP_POINTS = 12  # of accuracy, in the panel of few steps
LINE = 0.21  # height of a line of the legend [in]
FEW = 12  # number of points up to which a curve has markers

Curve = Mapping[str, Sequence[float]]
Points = Sequence[tuple[float, float]]


def accuracy_over_time(
    curves: Mapping[str, Curve],
    reference: Mapping[str, Points] | None = None,
    ann: Mapping[str, float] | None = None,
) -> Figure:
    """Accuracy against simulated time: the whole range at the left, the highest few percent at the right.

    curves: label -> columns of a curves.csv (acc [fraction] against time_ms, or against step if there are no times); the
    range from acc_low to acc_high, if there, is shaded.
    reference: label -> published points (time [ms], accuracy [fraction]), drawn as open markers.
    ann: label -> accuracy [fraction] of a ReLU network, drawn dashed, in the colour of the curve of the same label.
    Raises ValueError without curves.
    """
    return _two_panels(curves, "accuracy (%)", reference or {}, ann or {})


def accuracy_and_agreement(curve: Curve, read_from: int = 0) -> Figure:
    """Accuracy of the spiking network against time, and its agreement with the ReLU network (same predicted class).

    curve: columns of a curves.csv, acc and agreement as fractions. A directly trained network has no agreement. read_from: the
    number of steps that are left out of the read-out.
    """
    named = {"accuracy": curve}
    if any(math.isfinite(share) for share in curve.get("agreement", [])):
        named["agreement with the ReLU network"] = {**curve, "acc": curve["agreement"]}
    figure = _two_panels(named, "% of the test images", {}, {})
    figure.axes[0].set_title(f"whole range{read_out(len(curve['acc']), read_from)}", loc="left", fontsize=10, color=INK)
    return figure


def read_out(steps: int, read_from: int) -> str:
    """What a figure of T steps says of a delayed read-out: ", T = 32, read after t0 = 27"; nothing of any other."""
    return f", T = {steps}, read after t0 = {read_from}" if read_from else ""


def accuracy_in_few_steps(
    rows: pd.DataFrame,
    order: Sequence[str],
    reference: Mapping[str, Points],
    relu: tuple[str, float],
    title: str,
) -> Figure:
    """Accuracy [%] against T, on a logarithmic axis: the whole range at the left, the highest points at the right.

    rows: columns method, each_T, steps, acc; of several rows per method and T the mean is drawn with its 95 % interval. Methods
    with each_T are dashed: each of their points is another network. order: the methods as the legend lists them. reference:
    name -> published points (T, accuracy), open markers. relu: name and accuracy of the network before conversion.
    """
    figure = Figure(figsize=(9.6, 4.4), dpi=DPI, layout="constrained")
    whole, top = figure.subplots(1, 2, sharex=True)
    means = rows.groupby(["method", "steps"])["acc"].mean()
    dashed = set(rows["method"][rows["each_T"].astype(bool)])
    places: dict[bool, int] = {False: 0, True: 0}
    solid = len(set(order) - dashed)
    for name in order:
        i, dash = places[name in dashed], (0, (4, 1.5)) if name in dashed else "-"
        places[name in dashed] += 1
        marker = ALL_MARKERS[(sum(places.values()) - 1) % len(ALL_MARKERS)]
        of = rows[rows["method"] == name].groupby("steps")["acc"]
        halves = of.agg(half_interval)
        for axes in (whole, top):
            axes.errorbar(
                of.mean().index, of.mean(), yerr=None if halves.isna().all() else halves.fillna(0), linestyle=dash,
                color=PALETTE[(i + solid * (name in dashed)) % len(PALETTE)], marker=marker,
                markersize=5, linewidth=1.6, capsize=2, elinewidth=1, label=name,
            )  # fmt: skip
    for k, (name, points) in enumerate(reference.items()):
        for axes in (whole, top):
            axes.plot(
                *zip(*points, strict=True), MARKERS[k % len(MARKERS)], markersize=7, color=INK, markerfacecolor="none",
                markeredgewidth=1.3, label=name, zorder=4,
            )  # fmt: skip
    steps = sorted(set(rows["steps"]) | {int(t) for points in reference.values() for t, _ in points})
    best, label = max(relu[1], means.max()), f"{relu[0]}: {relu[1]:.2f} %"
    for axes in (whole, top):
        axes.axhline(relu[1], color=FAINT, linestyle=(0, (1, 1.2)), linewidth=1.4, zorder=1, label=label)
        plain_axes(axes, grid="both")
        axes.set_xscale("log", base=2)
        axes.set_xticks(steps, [str(t) for t in steps])
        axes.set_xticks([], minor=True)
        axes.set_xlabel("steps T", color=INK)
    low = max(0.0, math.floor((best - TOP_POINTS) / 2) * 2)
    whole.set_ylim(0, 102)
    top.set_ylim(low, min(100.25, math.ceil(best + 0.5)))
    whole.set_ylabel("accuracy (%)", color=INK)
    whole.set_title("whole range", loc="left", fontsize=10, color=INK)
    top.set_title(f"from {low:g} % up", loc="left", fontsize=10, color=INK)
    shown = dict(zip(*reversed(whole.get_legend_handles_labels()), strict=True))
    names = [*order, *reference, label]
    columns = 2 if max(map(len, names)) > 34 else 3
    handles = [shown[name] for name in names]
    figure.legend(handles, names, loc="outside lower left", ncols=columns, frameon=False, labelcolor=INK, fontsize=9)
    lines = [part for line in title.splitlines() for part in textwrap.wrap(line, TITLE_WIDTH)]
    rows_of_text = math.ceil(len(names) / columns) + len(lines) - 2
    figure.set_size_inches(9.6, 4.3 + LINE * rows_of_text)  # the panels keep their height
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=11, color=INK)
    return figure


def _two_panels(
    curves: Mapping[str, Curve], y_label: str, reference: Mapping[str, Points], ann: Mapping[str, float]
) -> Figure:
    if not curves:
        raise ValueError("no curve to draw; expected at least one")
    in_ms = all(_has_times(curve) for curve in curves.values())
    lines = {label: (curve["time_ms" if in_ms else "step"], _percent(curve["acc"])) for label, curve in curves.items()}
    levels = {label: 100 * accuracy for label, accuracy in ann.items()}
    marks = reference if in_ms else {}
    figure = Figure(figsize=(8.4, 4.0), dpi=DPI, layout="constrained")
    whole, top = figure.subplots(1, 2, sharex=True)
    ranges = {
        label: (_percent(curve["acc_low"]), _percent(curve["acc_high"]))
        for label, curve in curves.items()
        if "acc_low" in curve
    }
    for axes in (whole, top):
        _draw(axes, lines, marks, levels, ranges)
        plain_axes(axes, grid="both")
        axes.set_xlim(0, 1.02 * max(max(times) for times, _ in lines.values()))
        axes.set_xlabel("simulated time (ms)" if in_ms else "simulated steps", color=INK)
        if not in_ms:
            axes.xaxis.set_major_locator(MaxNLocator(nbins=9, integer=True))
    whole.set_ylim(0, 102)
    whole.set_ylabel(y_label, color=INK)
    low, high = _top_range([values[-1] for _, values in lines.values()], list(levels.values()))
    top.set_ylim(low, high)
    top.set_title(f"from {low:g} % up", loc="left", fontsize=10, color=INK)
    whole.set_title("whole range", loc="left", fontsize=10, color=INK)
    handles, names = whole.get_legend_handles_labels()
    longest = max(map(len, names))
    columns = 1 if longest > 44 else 2 if longest > 28 else min(3, len(names))
    figure.legend(handles, names, loc="outside upper left", ncols=columns, frameon=False, labelcolor=INK)
    figure.set_size_inches(8.4, 3.5 + LINE * math.ceil(len(names) / columns))  # the panels keep their height
    return figure


def _draw(
    axes: Axes,
    lines: Mapping[str, tuple[Sequence[float], list[float]]],
    marks: Mapping[str, Points],
    levels: Mapping[str, float],
    ranges: Mapping[str, tuple[list[float], list[float]]],
) -> None:
    colours = {label: PALETTE[i % len(PALETTE)] for i, label in enumerate(lines)}
    for i, (label, (times, values)) in enumerate(lines.items()):
        dash = DASHES[i // len(PALETTE) % len(DASHES)]
        relu = f" (dashed: ReLU network {levels[label]:.2f} %)" if label in levels else ""
        name = f"{label}: {values[-1]:.2f} %{relu}"
        dots = "o" if len(times) <= FEW else None
        axes.plot(
            times, values, color=colours[label], linestyle=dash, linewidth=2, label=name, marker=dots, markersize=5
        )
        if label in ranges:
            axes.fill_between(times, *ranges[label], color=colours[label], alpha=0.18, linewidth=0)
    for label, level in levels.items():
        # The ReLU network of a curve is part of the curve's legend entry; a label with "_" has no entry.
        name = "_relu" if label in lines else f"{label}: {level:.2f} %"
        axes.axhline(level, color=colours.get(label, FAINT), linestyle=(0, (6, 3)), linewidth=1.2, label=name, zorder=1)
    for i, (label, points) in enumerate(marks.items()):
        axes.plot(
            [time for time, _ in points], _percent([accuracy for _, accuracy in points]), MARKERS[i % len(MARKERS)],
            markersize=6, color=INK, markerfacecolor="white", markeredgewidth=1.3, label=label, zorder=4,
        )  # fmt: skip


def _top_range(finals: Sequence[float], levels: Sequence[float]) -> tuple[float, float]:
    """Limits in % that show every final value within four points of the best, at round numbers."""
    ends = [end for end in (*finals, *levels) if math.isfinite(end)] or [100.0]
    best = max(ends)
    lowest = min(end for end in ends if end >= best - 4)
    return max(0.0, math.floor(2 * (lowest - 1.5)) / 2), min(100.25, math.ceil(4 * (best + 0.1)) / 4)


def _has_times(curve: Curve) -> bool:
    times = curve.get("time_ms") or ()
    return bool(times) and all(math.isfinite(time) for time in times)


def _percent(fractions: Sequence[float]) -> list[float]:
    return [100 * fraction for fraction in fractions]
