"""Accuracy in few steps: for each network a figure and a table of all conversions of it. T steps.

A conversion that does not depend on T is simulated once, and its curve has the accuracy at every t. A network that was
converted for the T steps of its simulation (convert.steps) counts at t = T alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from respike.metrics.interval import half_interval
from respike.report.columns import NOTHING, duration
from respike.report.comparison.compare import Comparison
from respike.report.comparison.varied import DATA, Setting, shown
from respike.report.runs import is_missing, numbers
from respike.report.tables import text_table
from respike.report.verdicts import published_curve

SIMULATOR = "respike.simulate.rate.layerwise.simulate"
CONSTANT = "respike.neurons.encode.Current"
STEPS, DURATION = "convert.steps", "simulate.duration"  # T
READ_FROM = "simulate.read_from"
NETWORK = ("model", "recipe", "train", "lit", "ckpt_path", "random_weights", DATA)  # blocks that make the network
CONVERSION = ("convert", "callbacks.convert", READ_FROM)  # blocks that make a method
WORDS = {
    "convert.scale": "per {}",
    "convert.q": "q = {}",
    "convert.rounding": "rounding {}",
    READ_FROM: "read after t0 = {}",
    "callbacks.convert.calibration_size": "{} images",
}
LEAST_STEPS = 8  # of some run
MOST = 14  # methods of a figure
TABLE = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # and the last
COST_AT = 32  # the T at which spikes and operations are compared, or the largest one below that all methods have


@dataclass(frozen=True)
class Network:
    """What the conversions of one network measured.

    rows: a row per method, T (a power of two, or the last) and run: method, each_T (whether it is converted for every T),
    steps, acc [%], spikes and synops (per image, up to T), convert_s. relu: accuracy of the network before conversion [%], and
    relu_name, what it is. published: name -> its points (T, accuracy [%]). said: what was measured, and what is averaged.
    late: whether some methods leave the output of the first steps unread.
    """

    title: str
    rows: pd.DataFrame
    relu: float
    relu_name: str
    published: Mapping[str, Sequence[tuple[float, float]]]
    said: str
    late: bool

    @property
    def has_figure(self) -> bool:
        """Whether there is something to compare: several methods, or one and published values."""
        methods = self.rows["method"].nunique()
        return 1 < methods <= MOST or (methods == 1 and bool(self.published))

    @property
    def cost_at(self) -> int:
        """The T at which costs are compared: of those that all methods have the one nearest to COST_AT, below it if any is."""
        methods = self.rows["method"].nunique()
        common = self.rows.groupby("steps")["method"].nunique()
        shared = [int(steps) for steps in common.index[common == methods]]
        few = [steps for steps in shared if steps <= COST_AT]
        return max(few, default=min(shared, default=int(self.rows["steps"].min())))


def latency_networks(comparison: Comparison) -> list[Network]:
    """The networks of a comparison whose runs differ in the conversion and in T; [] if they differ in anything else.

    Inputs are constant currents: of random spikes, accuracy over time is drawn by `overlaid_curves`.
    """
    runs = comparison.runs
    steps = [int(curve["step"].iloc[-1]) if "step" in curve and len(curve) else 0 for curve in runs["curve"]]
    rates = runs.get("cfg.simulate._target_", pd.Series("", runs.index)).eq(SIMULATOR)
    constant = runs.get("cfg.encode._target_", pd.Series("", runs.index)).eq(CONSTANT)
    if not (rates & constant).all() or max(steps) < LEAST_STEPS or min(steps) < 1:
        return []
    runs, found = runs.assign(steps=steps), []
    for _, group in runs.groupby(_network_keys(runs), sort=False):
        settings = _varied(comparison, group)
        settings = [
            s for s in settings if s.key != DURATION and not (_is_in(s.key, ["convert"]) and s.key.endswith(".steps"))
        ]
        if any(not _is_in(setting.key, CONVERSION) for setting in settings):
            return []
        found.append(_network(comparison, group, settings))
    several = any(network.rows["method"].nunique() > 1 for network in found)
    return found if several or any(network.has_figure for network in found) else []


def _network_keys(runs: pd.DataFrame) -> pd.Series:
    """What tells the networks of runs apart, seeds aside."""
    names = [
        name
        for name in runs.columns
        if name.startswith("cfg.") and _is_in(name[4:], NETWORK[:-1]) and not name.endswith(".seed")
    ]
    return runs[[*names, DATA]].map(str).agg("|".join, axis=1)


def _is_in(key: str, blocks: Sequence[str]) -> bool:
    return any(key == block or key.startswith(f"{block}.") for block in blocks)


def _varied(comparison: Comparison, group: pd.DataFrame) -> list[Setting]:
    """The settings in which the points of a network differ."""
    points = comparison.points.loc[group["point"].unique()]
    return [s for s in comparison.settings if points[s.key].map(s.code).nunique() > 1]


def _network(comparison: Comparison, group: pd.DataFrame, settings: Sequence[Setting]) -> Network:
    names = {point: _method(comparison, point, settings) for point in group["point"].unique()}
    seeds = [f"cfg.{setting.key}" for setting in comparison.seeds]
    group = group.assign(
        method=group["point"].map(names), draw=group[seeds].map(str).agg("|".join, axis=1) if seeds else ""
    )
    wanted = numbers(group, f"cfg.{STEPS}")
    group = group.assign(each_T=wanted == group["steps"])
    other = wanted.notna() & ~group["each_T"]  # converted for another T than that of its simulation
    group["method"] += [f", for T = {t:.0f}" if apart else "" for t, apart in zip(wanted, other, strict=True)]
    # Of several lengths of one simulation the longest has them all.
    once = group[~group["each_T"]].sort_values("steps").drop_duplicates(["method", "draw"], keep="last")
    rows = pd.concat([_rows(run) for _, run in pd.concat([once, group[group["each_T"]]]).sort_index().iterrows()])
    first = group.iloc[0]
    activation = first.get("cfg.model.activation")
    draws = rows.groupby(["method", "steps"]).size()
    fewest, most = draws.min(), draws.max()
    of = f"{most}" if fewest == most else f"{fewest} to {most}"
    averaged = f"mean of {of} {comparison.repeated}, 95 % interval" if most > 1 else ""
    reduced = f"reduced: {', '.join(found)}" if (found := [text for text in group["reduced"].unique() if text]) else ""
    measured = f"{int(first['test_images']):,} test images of {first[DATA]}"
    title = first.get("cfg.paper.title")
    return Network(
        title=shown(first.get("cfg.model._target_")) if is_missing(title) else str(title),
        rows=rows.reset_index(drop=True),
        relu=100 * float(numbers(group, "ann/test_acc").mean()),
        relu_name="ReLU network"
        if is_missing(activation) or activation == "relu"
        else f"{str(activation).upper()} network",
        published=next(filter(None, (_published(run) for _, run in group.iterrows())), {}),
        said="; ".join(filter(None, (measured, averaged, reduced))),
        late=any(setting.key == READ_FROM for setting in settings),
    )


def _method(comparison: Comparison, point: int, settings: Sequence[Setting]) -> str:
    """The conversion and what else varies: "percentile, per channel"."""
    first = comparison.runs[comparison.runs["point"] == point].iloc[0]
    parts = [shown(first.get("cfg.convert._target_"))]
    for setting in settings:
        value = comparison.points.at[point, setting.key]
        if setting.key == "convert._target_" or is_missing(value) or (setting.key == READ_FROM and not value):
            continue
        word = WORDS.get(setting.key)
        parts.append(word.format(shown(value)) if word else setting.say(value))
    return ", ".join(parts)


def _rows(run: pd.Series) -> pd.DataFrame:
    """The rows of one run: at every power of two and the last step, or at T alone."""
    curve = run["curve"].dropna(subset=["acc"])
    last = curve["step"] == run["steps"]
    doubled = curve["step"].map(lambda step: math.log2(step).is_integer())
    chosen = curve[last if run["each_T"] else doubled | last]
    synops = chosen["synops_per_image"] if "synops_per_image" in chosen else chosen["acc"] * math.nan
    at_end = chosen["step"] == run["steps"]
    synops = synops.where(synops.notna() | ~at_end, numbers(run.to_frame().T, "snn/synops_per_image").iloc[0])
    return pd.DataFrame(
        {
            "method": run["method"], "each_T": run["each_T"], "steps": chosen["step"].astype(int),
            "acc": 100 * chosen["acc"], "spikes": chosen["spikes_per_image"], "synops": synops,
            "convert_s": numbers(run.to_frame().T, "time/convert_s").iloc[0],
        }
    )  # fmt: skip


def _published(run: pd.Series) -> dict[str, list[tuple[float, float]]]:
    """The points of paper.curve, whose times are steps of this run's length, where the images are those of the paper."""
    if run.get("other_data"):
        return {}
    points, dt, source = published_curve(run), run.get("cfg.simulate.dt"), run.get("cfg.paper.curve_source")
    if not points or not isinstance(dt, float):
        return {}
    name = "published" if is_missing(source) else f"published: {source}"
    return {name: [(time / (1000 * dt), 100 * accuracy) for time, accuracy in points]}


def latency_means(network: Network) -> pd.DataFrame:
    """A row per method and T: means, half the 95 % interval of the accuracy [%], and the number of runs."""
    order = {name: i for i, name in enumerate(ordered_methods(network))}
    rows = network.rows.sort_values(
        ["method", "steps"], key=lambda column: column.map(order) if column.name == "method" else column
    )
    groups = rows.groupby(["method", "each_T", "steps"], sort=False)
    means = groups[["acc", "spikes", "synops", "convert_s"]].mean()
    means.insert(1, "acc ±", groups["acc"].agg(half_interval))
    return means.assign(runs=groups.size()).reset_index().assign(network=network.title, relu=network.relu)


def ordered_methods(network: Network) -> list[str]:
    """The methods, the most accurate at T = `cost_at` first."""
    at = network.rows[network.rows["steps"] == network.cost_at].groupby("method")["acc"].mean()
    names = list(network.rows["method"].unique())
    return sorted(names, key=lambda name: -at.get(name, -1.0))


def latency_table(network: Network) -> pd.DataFrame:
    """Texts: a row per method, then the published values.

    Columns: accuracy at some T, and at one T spikes and synaptic operations per image and the time of the conversion.
    """
    means = latency_means(network).set_index(["method", "steps"])
    measured = network.rows["steps"]
    steps = sorted({*measured[measured.isin(TABLE)], measured.max()})
    at, lines = network.cost_at, []
    for name in ordered_methods(network):
        of: pd.DataFrame = means.loc[name]  # type: ignore[assignment]
        line: dict[str, str] = {"method": name}
        for t in steps:
            line[f"T = {t} (%)"] = _accuracy(*of.loc[t, ["acc", "acc ±"]]) if t in of.index else NOTHING
        cost = of.reindex([at]).iloc[0]
        for column, words in (("spikes", "spikes"), ("synops", "operations")):
            line[f"{words}, T = {at}"] = _short(float(cost[column]))
        line[f"calibration, T = {at}"] = duration(float(cost["convert_s"]))
        lines.append(line)
    for name, points in network.published.items():
        values = dict(points)
        lines.append({"method": name} | {f"T = {t} (%)": f"{values[t]:.2f}" for t in steps if t in values})
    return pd.DataFrame(lines, dtype=object).fillna(NOTHING)


def few_steps_text(comparison: Comparison, width: int) -> str:
    """The tables of `latency_networks` for a terminal of so many characters; "" where there is none."""
    parts = [
        f"{network.title}; {network.said}; {network.relu_name} {network.relu:.2f} %\n"
        + text_table(latency_table(network), width, left=["method"])
        for network in latency_networks(comparison)
    ]
    return "\n\n".join(parts)


def _accuracy(mean: float, half: float) -> str:
    return f"{mean:.2f}" + ("" if is_missing(half) else f" ± {half:.2f}")


def _short(value: float) -> str:
    """A count in thousands or millions."""
    if is_missing(value):
        return NOTHING
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= 0.9995 * size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g}"
