"""Accuracy and exactness of time-to-first-spike networks: against the margin zeta, under noise, and trained under it."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from respike.figures.curves import MARKERS
from respike.figures.style import DPI, FAINT, INK, PALETTE, plain_axes
from respike.metrics.interval import student_interval

SHARES = {
    "snn/test_acc": "accuracy (%)",
    "snn/agreement": "agreement with the ReLU network (%)",
    "ttfs/certified": "proved by the bound (% of pairs)",
    "ttfs/early": "fire before their last input (% of pairs)",
}


def zeta_trade_off(points: pd.DataFrame, measured_on: str = "") -> Figure:
    """Accuracy, agreement, proved and early shares against the latency of each zeta.

    points: a row per zeta; net (label of the network; one column of panels each), zeta (a number, or auto), ttfs/latency
    and any of SHARES as fractions, each with half of its 95 % interval as "<name> ±" if known; NaN where not measured.
    Proved and early shares are of pairs of an image and a neuron. measured_on: data and number of images, for the title.
    Raises ValueError without a measured share.
    """
    kept = [key for key in SHARES if key in points and points[key].notna().any()]
    if not kept:
        raise ValueError("no margin to draw; expected at least one with a measured share")
    nets = {str(net): rows for net, rows in points.sort_values("ttfs/latency").groupby("net", sort=False)}
    rows, columns = (-(-len(kept) // 2), min(2, len(kept))) if len(nets) == 1 else (len(kept), len(nets))
    size = max(6.0, (5.0 if len(nets) == 1 else 4.0) * columns), 2.9 * rows + 0.7
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex="col").ravel()
    drawn = [(key, label) for key in kept for label in nets]
    for i, (axes, (key, label)) in enumerate(zip(panels, drawn, strict=False)):
        known = nets[label].dropna(subset=[key])
        _share_panel(axes, known, key)
        if i < columns:
            _name_zetas(axes, known)
        title = f"{label}\n{SHARES[key]}" if len(nets) > 1 and i < columns else SHARES[key]
        axes.set_title(title, loc="left", fontsize=10, color=INK)
        if i + columns >= len(drawn):
            axes.set_xlabel("latency (input intervals)", color=INK)
            axes.tick_params(labelbottom=True)
    for axes in panels[len(drawn) :]:
        axes.set_axis_off()
    if measured_on:
        figure.suptitle(f"{measured_on}; a pair is an image and a neuron", x=0.01, ha="left", fontsize=10, color=INK)
    return figure


def _share_panel(axes: Axes, points: pd.DataFrame, key: str) -> None:
    halves = 100 * points.get(f"{key} ±", pd.Series(math.nan, points.index)).astype(float).fillna(0.0)
    latency, share = points["ttfs/latency"], 100 * points[key].astype(float)
    axes.plot(latency, share, f"{MARKERS[0]}-", markersize=5, color=PALETTE[0], linewidth=1.8, clip_on=False, zorder=3)
    if halves.any():
        axes.errorbar(latency, share, yerr=halves, fmt="none", capsize=3, ecolor=PALETTE[0], elinewidth=1.8)
    plain_axes(axes, grid="y")
    axes.vlines(latency, 0, 1, transform=axes.get_xaxis_transform(), color="#e3e3e3", linewidth=0.8)
    axes.margins(x=0.05)
    if len(points):
        low, high = (share - halves).min(), (share + halves).max()
        room = 0.12 * max(high - low, 0.5)
        bottom = max(low - room, 0)
        top = min(high + room, 100 + 0.1 * (100 - bottom))  # above 100 only room for half a marker
        ticks = axes.yaxis.get_major_locator().tick_values(bottom, top)
        axes.set_yticks([tick for tick in ticks if bottom <= tick <= 100 + 1e-9])
        axes.set_ylim(bottom, top)
    axes.ticklabel_format(axis="y", useOffset=False)


def _name_zetas(axes: Axes, points: pd.DataFrame) -> None:
    """Above the panel the zeta of each latency."""
    zetas: list[Any] = list(points["zeta"])
    names = [zeta if isinstance(zeta, str) else f"{zeta:g}".replace("-", "−") for zeta in zetas]
    above = axes.secondary_xaxis("top")
    above.set_xticks(list(points["ttfs/latency"]), names, rotation=90, fontsize=8)
    above.set_xlabel("zeta", fontsize=9, color=INK)
    above.spines["top"].set_visible(False)
    above.tick_params(length=0, colors=INK)


def robustness(
    runs: pd.DataFrame, undisturbed: float | None = None, title: str = "", kinds: Sequence[str] = ()
) -> Figure:
    """Accuracy against the standard deviation of the noise, on a logarithmic axis, a line for each kind of noise.

    runs: a row per trial; kind (label), sigma (above 0), accuracy as a fraction. Points are means over the trials, bars
    their 95 % interval. undisturbed: accuracy without noise, a dashed line. kinds: kinds in the order of their colours and
    markers, whether they are drawn or not; others follow. Raises ValueError without a run.
    """
    if runs.empty:
        raise ValueError("no noise to draw; expected at least one kind")
    figure = Figure(figsize=(8, 4.6), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    found = list(runs["kind"].unique())
    order = [*kinds, *(kind for kind in found if kind not in kinds)]
    places = {kind: i for i, kind in enumerate(order) if kind in found}
    drawn = list(places)
    sns.lineplot(
        runs.assign(percent=100 * runs["accuracy"]), x="sigma", y="percent", hue="kind", style="kind", dashes=False,
        hue_order=drawn, style_order=drawn, markers=[MARKERS[i % len(MARKERS)] for i in places.values()],
        palette=[PALETTE[i % len(PALETTE)] for i in places.values()], errorbar=student_interval, err_style="bars",
        err_kws={"capsize": 3}, markersize=6,
        markeredgecolor="none", linewidth=1.8, ax=axes,
    )  # fmt: skip
    if undisturbed is not None:
        level = 100 * undisturbed
        axes.axhline(level, color=FAINT, linestyle=(0, (6, 3)), linewidth=1.2, zorder=1)
        axes.annotate(
            f"without noise {level:.2f} %", (1, level), xycoords=("axes fraction", "data"), xytext=(-4, 4),
            textcoords="offset points", ha="right", fontsize=9, color=INK,
        )  # fmt: skip
    plain_axes(axes, grid="both")
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("standard deviation of the noise", color=INK)
    axes.set_ylabel("accuracy (%)", color=INK)
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    handles, names = axes.get_legend_handles_labels()
    if legend := axes.get_legend():
        legend.remove()
    figure.legend(handles, names, loc="outside upper left", ncols=min(3, len(drawn)), frameon=False, labelcolor=INK)
    return figure


def recovery(points: pd.DataFrame) -> Figure:
    """What hardware costs a mapped network, and what training under it recovers: accuracies as points with 95 % intervals.

    points: a row per run; what (label of the disturbance), trained (bool), accuracy and half (half of its interval) as
    fractions. Raises ValueError without a run.
    """
    if points.empty:
        raise ValueError("no run to draw; expected at least one")
    labels = list(dict.fromkeys(points["what"]))
    figure = Figure(figsize=(8, 0.7 * len(labels) + 1.5), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    for i, (trained, name) in enumerate(((False, "as mapped"), (True, "fine-tuned"))):
        rows = points[points["trained"] == trained]
        share, half = 100 * rows["accuracy"].astype(float), 100 * rows["half"].astype(float)
        places = [labels.index(what) + 0.12 * (2 * i - 1) for what in rows["what"]]
        axes.errorbar(share, places, xerr=half, fmt=MARKERS[i], capsize=3, color=PALETTE[i], label=name)
    plain_axes(axes, grid="x")
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xlabel("accuracy (%)", color=INK)
    figure.legend(loc="outside upper left", ncols=2, frameon=False, labelcolor=INK)
    return figure
