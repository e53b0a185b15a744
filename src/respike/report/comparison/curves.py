"""Curves of the compared points: accuracy over time, and metrics along one setting, a margin or a noise."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from respike.figures.curves import accuracy_over_time
from respike.figures.robustness import SHARES, robustness, zeta_trade_off
from respike.figures.style import DPI, FAINT, INK, PALETTE, plain_axes
from respike.metrics.interval import student_interval
from respike.report.columns import Column
from respike.report.comparison.compare import Comparison
from respike.report.comparison.varied import Setting
from respike.report.runs import is_number, numbers

FEW = 12  # steps of a curve that are marked
MOST_OVERLAID = 7  # points in one panel
MOST_PANELS = 24
MOST_LISTED = 8
MOST_LINES = 7
MOST_TICKS = 9
MOST_NETS = 4
ZETA = "convert.zeta"
NOISES = {
    "simulate.time_noise": "on spike times",
    "simulate.alpha_noise": "on alpha",
    "simulate.weight_noise": "on weights, as a share",
}
OWN_FIGURE = (ZETA, *NOISES)  # settings with a figure of their own, and therefore no map


def overlaid_curves(comparison: Comparison) -> Figure | None:
    """Mean accuracy over time, with the 95 % interval over seeds as a band; None where no curve has several steps.

    All points in one panel while they are few, else a panel for each choice of the settings that the colour does not show.
    """
    curves = long_curves(comparison)
    if curves.empty:
        return None
    return (_one_panel if curves["point"].nunique() <= MOST_OVERLAID else _multiples)(comparison, curves)


def long_curves(comparison: Comparison) -> pd.DataFrame:
    """The curves of all runs under each other, with the columns `point` and `run`.

    Points whose runs recorded different steps, or a single one, are left out.
    """
    parts = []
    for point, runs in comparison.runs.groupby("point"):
        curves = list(runs["curve"])
        steps = [tuple(curve["step"]) if "step" in curve else () for curve in curves]
        if len(steps[0]) > 1 and len(set(steps)) == 1:
            parts += [curve.assign(point=point, run=run) for run, curve in zip(runs.index, curves, strict=True)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _one_panel(comparison: Comparison, curves: pd.DataFrame) -> Figure:
    points = {point: curves[curves["point"] == point] for point in curves["point"].unique()}
    means = {_curve_name(comparison, point): _mean(group) for point, group in points.items()}
    figure = accuracy_over_time(means, ann=_shared_network(comparison, curves))
    clock = _clock(curves)
    for axes in figure.axes:
        for line, group in zip(axes.get_lines(), points.values(), strict=False):
            if group["run"].nunique() > 1:
                ends = pd.DataFrame([student_interval(list(100 * at["acc"])) for _, at in group.groupby("step")])
                times = group.groupby("step")[clock].mean()
                axes.fill_between(times, ends[0], ends[1], color=line.get_color(), alpha=0.2, linewidth=0)
    if comparison.seed_note():
        title = f"whole range; bands: 95 % interval over {comparison.repeated}"
        figure.axes[0].set_title(title, loc="left", fontsize=10, color=INK)
    return figure


def curve_clock(comparison: Comparison) -> str:
    """The column that is time in the figure of curves: `time_ms`, or `step` where some steps have no length."""
    return _clock(long_curves(comparison))


def _mean(group: pd.DataFrame) -> dict[str, list[float]]:
    """The mean curve over the runs of a point; columns without a number are left out."""
    means = group.drop(columns=["run", "point"]).groupby("step").mean().dropna(axis=1, how="all").reset_index()
    return {name: list(means[name]) for name in means.columns}


def _curve_name(comparison: Comparison, point: int) -> str:
    number = int(comparison.points["runs"].loc[point])
    return comparison.name(point) + (f", {number} {comparison.repeated}" if number > 1 else "")


def _clock(curves: pd.DataFrame) -> str:
    return "time_ms" if "time_ms" in curves and curves["time_ms"].notna().all() else "step"


def _shared_network(comparison: Comparison, curves: pd.DataFrame) -> dict[str, float]:
    """The accuracy of the ReLU network, where all drawn runs have the same."""
    found = numbers(comparison.runs.loc[curves["run"].unique()], "ann/test_acc").dropna().unique()
    return {"ReLU network": float(found[0])} if len(found) == 1 else {}


def _multiples(comparison: Comparison, curves: pd.DataFrame) -> Figure:
    """Colour: the setting with most values, numeric if there is one. Panels: every choice of the others."""
    numeric = sorted(comparison.axes(), key=lambda s: -len(s.values))
    colour = numeric[0] if numeric else max(comparison.settings, key=lambda s: len(s.values))
    drawn = set(curves["point"])
    found = _panels(comparison, drawn, [colour.key])
    if len(drawn) < 2 * len(found):  # a search: hardly two runs share a value
        found = _panels(comparison, drawn, [setting.key for setting in (colour, *numeric)])
    columns = _columns(comparison, colour, next((s for s in numeric if s is not colour), None), len(found))
    panels = list(found.items())[:MOST_PANELS]
    lines = math.ceil(len(panels) / columns)
    size = (max(6.5, 2.75 * columns), 2.05 * lines + (1.1 if lines > 1 else 2.2))
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    palette, clock = _palette(colour), _clock(curves)
    colours = comparison.points[colour.key].map(palette.get).to_dict()
    for i, (axes, (title, points)) in enumerate(zip(grid.flat, panels, strict=False)):
        part = curves[curves["point"].isin(points)]
        sns.lineplot(
            part.assign(percent=100 * part["acc"]), x=clock, y="percent", hue="point", palette=colours, linewidth=1.6,
            marker="o" if part["step"].nunique() < FEW else None, markersize=4, markeredgecolor="none", legend=False,
            errorbar=student_interval if part["run"].nunique() > len(points) else None, ax=axes,
        )  # fmt: skip
        plain_axes(axes, grid="both")
        if clock == "step":
            axes.xaxis.set_major_locator(MaxNLocator(nbins=9, integer=True))
        axes.set_ylim(0, 102)
        axes.set_title(title, loc="left", fontsize=9, color=INK)
        axes.set_ylabel("" if i % columns else "accuracy (%)", color=INK)
        last = i + columns >= len(panels)
        axes.set_xlabel(("simulated time (ms)" if clock == "time_ms" else "simulated steps") if last else "", color=INK)
        if last:
            axes.tick_params(labelbottom=True)
    for spare in grid.flat[len(panels) :]:
        spare.set_visible(False)
    _legend(figure, list(grid.flat[: len(panels)]), colour, palette, _shared_network(comparison, curves))
    more = f", the first {MOST_PANELS} of {len(found)} panels" if len(found) > MOST_PANELS else ""
    seeds = f" ({comparison.seed_note()})" if comparison.seed_note() else ""
    over = "time" if clock == "time_ms" else "steps"
    title = f"Accuracy over simulated {over}, coloured by {colour.bare}{more}{seeds}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, color=INK)
    return figure


def _panels(comparison: Comparison, drawn: set[int], without: Sequence[str]) -> dict[str, list[int]]:
    found = {title: [p for p in points if p in drawn] for title, points in comparison.panels(without).items()}
    return {title: points for title, points in found.items() if points}


def _columns(comparison: Comparison, colour: Setting, row: Setting | None, number: int) -> int:
    """One column per value of the second numeric setting, where that leaves a readable width."""
    last = [setting for setting in comparison.settings if setting is not colour][-1:]
    if row is not None and last == [row] and 1 < len(row.values) <= 5 and number % len(row.values) == 0:
        return len(row.values)
    return min(4, number)


def _palette(setting: Setting) -> dict[Any, Any]:
    """A colour for each value: distinct ones for choices, a ramp for numbers."""
    if not setting.numeric and len(setting.values) <= len(PALETTE):
        return dict(zip(setting.values, PALETTE, strict=False))
    ramp, last = matplotlib.colormaps["viridis"], max(1, len(setting.values) - 1)
    return {value: ramp(0.92 * i / last) for i, value in enumerate(setting.values)}


def _legend(
    figure: Figure, grid: Sequence[Axes], colour: Setting, palette: Mapping[Any, Any], network: Mapping[str, float]
) -> None:
    """The colours, a few of them where there are many, and the dashed line of the ReLU network."""
    every = math.ceil(len(colour.values) / MOST_LISTED)
    handles = [
        Line2D([], [], color=palette[value], linewidth=2, label=colour.shown(value)) for value in colour.values[::every]
    ]
    for name, level in network.items():
        for axes in grid:
            axes.axhline(100 * level, color=FAINT, linestyle=(0, (6, 3)), linewidth=1.1, zorder=1)
        handles.append(Line2D([], [], color=FAINT, linestyle=(0, (6, 3)), label=f"{name}\n{100 * level:.2f} %"))
    figure.legend(
        handles=handles, title=colour.label, loc="outside right center", frameon=False, labelcolor=INK, fontsize=9
    )


def effect_figure(comparison: Comparison, setting: Setting, columns: Sequence[Column]) -> Figure:
    """A panel for each metric, a line for each choice of the other settings; bars are 95 % intervals over seeds.

    Values are at equal distances: they are choices, and thresholds or rates mostly grow by factors.
    """
    panels = comparison.panels((setting.key,))
    names = {point: name for name, points in list(panels.items())[:MOST_LINES] for point in points}
    runs = comparison.runs[comparison.runs["point"].isin(names)]
    runs = runs.assign(
        place=runs["point"].map(comparison.points[setting.key]).map(setting.code), line=runs["point"].map(names)
    )
    figure = Figure(figsize=(3.6 * len(columns) + 0.4, 4.0), dpi=DPI, layout="constrained")
    grid = figure.subplots(1, len(columns), squeeze=False)[0]
    for axes, column in zip(grid, columns, strict=True):
        sns.lineplot(
            runs.assign(value=column.scaled(numbers(runs, column.key))), x="place", y="value", hue="line", ax=axes,
            palette=list(PALETTE[: runs["line"].nunique()]), errorbar=student_interval, err_style="bars",
            err_kws={"capsize": 3}, marker="o", markersize=6, markeredgecolor="none",
            linestyle="-" if setting.numeric else "", linewidth=1.6, legend=axes is grid[0],
        )  # fmt: skip
        plain_axes(axes, grid="y")
        every = math.ceil(len(setting.values) / MOST_TICKS)
        axes.set_xticks(
            range(0, len(setting.values), every), [setting.shown(value) for value in setting.values[::every]]
        )
        axes.set_xlim(-0.4, len(setting.values) - 0.6)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}" if abs(value) < 1000 else f"{value:,.0f}")
        axes.set_xlabel(setting.label, color=INK)
        axes.set_ylabel("")
        axes.set_title(column.heading, loc="left", fontsize=10, color=INK)
    handles, lines = grid[0].get_legend_handles_labels()
    if grid[0].get_legend():
        grid[0].get_legend().remove()
    if len(panels) > 1:
        figure.legend(handles, lines, loc="outside lower left", ncols=min(3, len(lines)), frameon=False, labelcolor=INK)
    notes = [comparison.seed_note()] if comparison.seed_note() else []
    notes += [f"the first {MOST_LINES} of {len(panels)} combinations"] if len(panels) > MOST_LINES else []
    aside = f" ({'; '.join(notes)})" if notes else ""
    title = f"Effect of the {setting.bare}, {comparison.measured_on()}{aside}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, color=INK)
    return figure


def zeta_figure(comparison: Comparison) -> Figure | None:
    """Accuracy and exactness against the latency of each zeta, a column of panels for each choice of the other settings.

    None where no two runs of spike times differ in zeta alone.
    """
    if ZETA not in comparison.points:
        return None
    names = comparison.points.index.map(lambda point: comparison.name(point, [ZETA]))
    points = comparison.points.assign(net=names, **{"ttfs/latency": comparison.means.get("ttfs/latency", math.nan)})
    points = points[points[ZETA].notna() & points["ttfs/latency"].notna()]
    several = points.groupby("net", sort=False)["net"].transform("size") > 1
    nets = points["net"][several].unique()[:MOST_NETS]
    points = points[points["net"].isin(nets)].rename(columns={ZETA: "zeta"})
    if points.empty:
        return None
    for key in SHARES:
        if comparison.has(key):
            points = points.assign(**{key: comparison.means[key], f"{key} ±": comparison.halves[key]})
    title = "; ".join(filter(None, (comparison.measured_on(), comparison.seed_note(points.index))))
    return zeta_trade_off(points.assign(net=points["net"] if len(nets) > 1 else ""), title)


def noise_figure(comparison: Comparison) -> Figure | None:
    """Accuracy against the deviation of the noise, a line for each kind and choice of the other settings.

    None where no noise is varied.
    """
    varied = [setting.key for setting in comparison.settings if setting.key in NOISES]
    if not varied:
        return None
    names = comparison.points.index.map(lambda point: comparison.name(point, varied))
    sigmas = comparison.points[varied].map(lambda value: float(value) if is_number(value) else 0.0)
    runs = comparison.runs[["point"]].assign(accuracy=numbers(comparison.runs, "snn/test_acc"))
    noisy = (sigmas > 0).sum(axis=1)
    one = noisy[noisy == 1].index
    kinds = pd.DataFrame({"noise": sigmas.loc[one].idxmax(axis=1).map(NOISES), "sigma": sigmas.loc[one].max(axis=1)})
    kinds["net"] = pd.Series(names, comparison.points.index)
    kinds["kind"] = kinds["noise"] + (", " + kinds["net"] if kinds["net"].nunique() > 1 else "")
    drawn = runs.merge(kinds, left_on="point", right_index=True).dropna(subset=["accuracy"])
    if drawn.empty:
        return None
    nets = set(drawn["net"])
    quiet = [point for point, name in zip(noisy.index, names, strict=True) if noisy[point] == 0 and name in nets]
    undisturbed = float(comparison.means["snn/test_acc"].loc[quiet[0]]) if len(quiet) == 1 else None
    title = "; ".join(filter(None, (comparison.measured_on(), comparison.seed_note(drawn["point"].unique()))))
    shown = kinds["net"].unique()
    order = [noise + (f", {net}" if len(shown) > 1 else "") for noise in NOISES.values() for net in shown]
    return robustness(drawn, undisturbed, title, order)
