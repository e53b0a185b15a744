"""What the margin zeta buys, and what noise costs: figures over several evaluations of time-to-first-spike networks."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from respike.figures.curves import DASHES, DPI, FAINT, INK, MARKERS, PALETTE, plain_axes

Columns = Mapping[str, Sequence[float | str | None]]
Point = tuple[float | str, float, float]  # place on the axis, share in %, half of its 95 % interval in points

SHARES = {
    "snn/test_acc": "accuracy (%)",
    "snn/agreement": "agreement with the ReLU network (%)",
    "ttfs/certified": "proved by the bound (% of the neurons)",
    "ttfs/early": "fire before their last input (% of the neurons)",
}


def zeta_trade_off(nets: Mapping[str, Columns]) -> Figure:
    """Accuracy, agreement, proved and early shares against the latency that each zeta leads to.

    nets: label -> columns zeta (a number, or auto), ttfs/latency and any of SHARES as fractions, each with half of its 95 %
    interval under its name and " ±" where there is one; None where it was not measured. Raises ValueError without a point.
    """
    kept = [key for key in SHARES if any(v is not None for columns in nets.values() for v in columns.get(key, ()))]
    if not kept:
        raise ValueError("no margin to draw; expected at least one with a measured share")
    rows, columns = (-(-len(kept) // 2), min(2, len(kept))) if len(nets) == 1 else (len(kept), len(nets))
    size = max(6.0, (5.0 if len(nets) == 1 else 4.0) * columns), 2.9 * rows + 0.7
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex="col").ravel()
    drawn = [(key, label) for key in kept for label in nets]
    for i, (axes, (key, label)) in enumerate(zip(panels, drawn, strict=False)):
        points = _known(nets[label], "ttfs/latency", key)
        _line(axes, points, 0, "")
        plain_axes(axes, grid="y")
        axes.vlines(
            [x for x, _, _ in points], 0, 1, transform=axes.get_xaxis_transform(), color="#e3e3e3", linewidth=0.8
        )
        axes.margins(x=0.05)
        low, high = min(y - half for _, y, half in points), max(y + half for _, y, half in points)
        room = 0.12 * max(high - low, 0.5)
        axes.set_ylim(low - room, min(high, 100) + room)
        axes.ticklabel_format(axis="y", useOffset=False)
        if i < columns:
            _zetas(axes, _known(nets[label], "zeta", key), points)
        title = f"{label}\n{SHARES[key]}" if len(nets) > 1 and i < columns else SHARES[key]
        axes.set_title(title, loc="left", fontsize=10, color=INK)
        if i + columns >= len(drawn):
            axes.set_xlabel("latency (input intervals)", color=INK)
            axes.tick_params(labelbottom=True)
    for axes in panels[len(drawn) :]:
        axes.set_axis_off()
    return figure


def _zetas(axes: Axes, zetas: Sequence[Point], points: Sequence[Point]) -> None:
    """Above the panel the zeta that leads to each latency."""
    names = [zeta if isinstance(zeta, str) else f"{zeta:g}".replace("-", "−") for zeta, _, _ in zetas]
    above = axes.secondary_xaxis("top")
    above.set_xticks([x for x, _, _ in points], names, rotation=90, fontsize=8)
    above.set_xlabel("zeta", fontsize=9, color=INK)
    above.spines["top"].set_visible(False)
    above.tick_params(length=0, colors=INK)


def robustness(kinds: Mapping[str, Columns], undisturbed: float | None = None, trials: str = "") -> Figure:
    """Accuracy against the standard deviation of the noise, on a logarithmic axis, a line for each kind of noise.

    kinds: label -> columns sigma (above 0), snn/test_acc as a fraction and half of its 95 % interval as "snn/test_acc ±";
    undisturbed: accuracy without noise, a dashed line; trials: "mean of 16 trials, 95 % interval". Raises ValueError without
    a kind.
    """
    if not kinds:
        raise ValueError("no noise to draw; expected at least one kind")
    figure = Figure(figsize=(8, 4.6), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    for i, (label, columns) in enumerate(kinds.items()):
        _line(axes, _known(columns, "sigma", "snn/test_acc"), i, label)
    if undisturbed is not None:
        axes.axhline(100 * undisturbed, color=FAINT, linestyle=(0, (6, 3)), linewidth=1.2, zorder=1)
        axes.annotate(
            f"without noise {100 * undisturbed:.2f} %", (1, 100 * undisturbed), xycoords=("axes fraction", "data"),
            xytext=(-4, 4), textcoords="offset points", ha="right", fontsize=9, color=INK,
        )  # fmt: skip
    plain_axes(axes, grid="both")
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("standard deviation of the noise", color=INK)
    axes.set_ylabel("accuracy (%)", color=INK)
    axes.set_title(trials, loc="left", fontsize=10, color=INK)
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper left", ncols=min(3, len(names)), frameon=False, labelcolor=INK)
    return figure


def _known(columns: Columns, x: str, key: str) -> list[Point]:
    """(x, share in %, half its interval in points) by ascending latency or noise, where both are known."""
    values, order = columns.get(key, ()), columns.get("ttfs/latency", columns.get("sigma", ()))
    halves = columns.get(f"{key} ±") or [None] * len(values)
    found = [
        (at, at_x, 100 * value, 100 * (half or 0.0))
        for at, at_x, value, half in zip(order, columns[x], values, halves, strict=True)
        if at is not None and value is not None and math.isfinite(value)
    ]
    return [entry[1:] for entry in sorted(found, key=lambda entry: entry[0])]


def _line(axes: Axes, points: Sequence[Point], number: int, label: str) -> None:
    if points:
        xs, ys, halves = zip(*points, strict=True)
        axes.errorbar(
            xs, ys, yerr=halves if any(halves) else None, fmt=MARKERS[number % len(MARKERS)], capsize=3, markersize=5,
            color=PALETTE[number % len(PALETTE)], linestyle=DASHES[number // len(PALETTE) % len(DASHES)], linewidth=1.8,
            label=label or "_",
        )  # fmt: skip
