"""Runs in, a comparison out: what varies, one point per choice of settings with its means, the best trade-offs."""

import difflib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from respike.errors import InputError
from respike.metrics.interval import half_interval
from respike.report.columns import COMPARED, Column, metric
from respike.report.comparison.trade_off import ACCURACY, front
from respike.report.comparison.varied import (
    DATA,
    MOST_NAMED,
    Setting,
    settings_of,
    settings_text,
    typed_keys,
    varied_settings,
)
from respike.report.runs import is_missing, is_number, metric_names, numbers
from respike.runs.old_names import new_key


@dataclass(frozen=True)
class Comparison:
    """What tables and figures read.

    settings: those that vary, without seeds. seeds: those averaged over, trials too.
    runs: the finished runs, a frame from `load_runs` with the column `point`. failures: the jobs without a result.
    points: a row per choice of settings: a column per setting under its key, `data`, `runs` (how many) and `best`
    (whether no other point is better in all objectives). means, halves: of every metric at each point, and half the
    95 % interval; NaN where a run did not measure it, or where there is one run.
    objectives: accuracy, latency, energy. notes: lines that a reader needs.
    """

    settings: tuple[Setting, ...]
    seeds: tuple[Setting, ...]
    runs: pd.DataFrame
    failures: pd.DataFrame
    points: pd.DataFrame
    means: pd.DataFrame
    halves: pd.DataFrame
    objectives: tuple[Column, Column, Column]
    notes: tuple[str, ...]

    @property
    def latency(self) -> Column:
        """The measure of latency."""
        return self.objectives[1]

    def name(self, point: int, without: Sequence[str] = ()) -> str:
        """The settings of a point: "data_norm, threshold 0.5, rate 400 Hz"; of too many settings, the name of its run."""
        if len(self.settings) > MOST_NAMED:
            return str(self.runs.index[self.runs["point"] == point][0])
        named = [setting for setting in self.settings if setting.key not in without]
        values = {setting.key: self.points.at[point, setting.key] for setting in named}
        return settings_text(named, values) if self.settings else "all runs"

    def measured_on(self) -> str:
        """Data and size: "500 test images of MNIST"; each data set once."""
        sizes = sorted(set(zip(self.runs["data"], self.runs["test_images"].astype(int), strict=True)))
        return " and ".join(f"{images:,} test images of {data}" for data, images in sizes)

    @property
    def repeated(self) -> str:
        """What is averaged over: "seeds", "trials" of noise, "draws of calibration images", or several of them."""
        names = {key: f"{key}s" for key in ("seed", "trial")} | {"calibration_seed": "draws of calibration images"}
        return " and ".join(sorted({names[setting.key.split(".")[-1]] for setting in self.seeds})) or "seeds"

    def seed_note(self, points: Iterable[int] | None = None) -> str:
        """How many seeds or trials a mean of these points has, by default of all; "" where every one is a single run."""
        runs = self.points["runs"] if points is None else self.points["runs"].loc[list(points)]
        least, most = runs.min(), runs.max()
        if most < 2:
            return ""
        return f"mean of {least if least == most else f'{least} to {most}'} {self.repeated}, 95 % interval"

    def has(self, key: str) -> bool:
        """Whether some point has a mean of the metric."""
        return key in self.means and bool(self.means[key].notna().any())

    def errors(self, key: str = ACCURACY) -> pd.Series:
        """100 minus the mean accuracy of each point in %, at least that of half an image, for a logarithmic axis."""
        images = self.runs["test_images"].astype(float).groupby(self.runs["point"]).max()
        return (100 - 100 * self.means[key]).clip(lower=50 / images)

    def panels(self, without: Sequence[str]) -> dict[str, list[int]]:
        """The points by the settings that no axis and no colour shows: title -> points; a single panel has no title."""
        found: dict[str, list[int]] = {}
        for point in self.points.index:
            found.setdefault(self.name(point, without), []).append(point)
        return found if len(found) > 1 else {"": list(self.points.index)}

    def axes(self) -> list[Setting]:
        """The numeric settings to draw along: threshold and rate first, then those with most values."""
        usual = ["neuron.threshold", "encode.max_rate"]
        numeric = [s for s in self.settings if s.numeric and len(s.values) > 1 and s.key != DATA]
        return sorted(numeric, key=lambda s: (usual.index(s.key) if s.key in usual else 2, -len(s.values)))


def compare(frame: pd.DataFrame, latency_by: str = "within") -> Comparison:
    """Compare the runs of a frame from `load_runs`.

    latency_by: "within" or an accuracy as a fraction, see `latency_column`.
    Raises InputError when there is nothing to compare.
    """
    latency = latency_column(latency_by)
    runs, failures = frame[frame["failure"] == ""], frame[frame["failure"] != ""]
    if len(runs) < 2:
        raise InputError(_too_few(runs, failures))
    measured = pd.DataFrame({name: numbers(runs, name) for name in [*metric_names(runs), "test_images"]})
    if latency_by != "within":
        measured[latency.key] = [first_time(curve, float(latency_by)) for curve in runs["curve"]]
    elif "snn/time_to_1pct_ms" not in measured or measured["snn/time_to_1pct_ms"].isna().all():
        # Spike times are read once, and the steps of directly trained networks have no length in ms.
        others = [
            key for key in ("ttfs/latency", "snn/steps_to_1pct") if key in measured and measured[key].notna().any()
        ]
        latency = metric(others[0]) if others else latency
    table = settings_of(runs)
    found = varied_settings(table, {key for changed in runs["changed"] for key in typed_keys(str(changed))})
    settings = tuple(setting for setting in found if not setting.is_seed)
    kept = _latest(runs, _codes(table, found))
    repeats, runs, measured = len(runs) - len(kept), runs.loc[kept], measured.loc[kept]
    runs = runs.assign(point=_point_numbers(_codes(table.loc[kept], settings)))
    if len(runs) < 2:
        raise InputError(
            f"nothing to compare: the {len(table)} runs have the same settings and seed; "
            "give runs that differ, such as those of -m neuron.threshold=0.5,1,2"
        )
    groups = measured.groupby(runs["point"])
    means = groups.mean().where(groups.count().eq(groups.size(), axis=0))
    points = _points(table.loc[kept], runs, settings)
    spent = _spent(measured)
    objectives = metric("snn/test_acc"), latency, metric(spent)
    means = means.reindex(columns=list(dict.fromkeys([*means, *(o.key for o in objectives)])))
    fewer = _tested_on_fewer(points, means)
    points["best"] = front(means, points[DATA].mask(fewer), objectives)
    return Comparison(
        settings=settings,
        seeds=tuple(setting for setting in found if setting.is_seed),
        runs=runs.assign(**{latency.key: measured.get(latency.key, math.nan)}),
        failures=_known_data(failures, runs),
        points=points,
        means=means,
        halves=groups.agg(half_interval).reindex(columns=list(means)),
        objectives=objectives,
        notes=(*_notes(points, runs, found, repeats, len(failures)), *_unranked(means, latency, fewer)),
    )


def _spent(measured: pd.DataFrame) -> str:
    """The metric of energy that all runs have, with memory or arithmetic only; else spikes."""
    known = [name for name in ("energy/snn_low_nj", "energy/snn_nj") if name in measured]
    complete = [name for name in known if measured[name].notna().all()]
    partly = [name for name in reversed(known) if measured[name].notna().any()]
    return (*complete, *partly, "snn/spikes_per_image")[0]


def latency_column(given: str) -> Column:
    """The measure of latency: `within`, the time from which the accuracy stays within one point of the run's final one, or
    the simulated time at which the accuracy first reaches a fraction such as "0.98".

    Raises InputError for anything else.
    """
    if given == "within":
        return metric("snn/time_to_1pct_ms")
    try:
        level = float(given)
    except ValueError:
        level = math.nan
    if not 0 < level <= 1:
        raise InputError(f"--latency {given}: expected within, or an accuracy as a fraction such as 0.98")
    return Column(f"time_to_{given}", f"time to {100 * level:g} % accuracy", "ms", -1)


def first_time(curve: pd.DataFrame, level: float) -> float:
    """The first time [ms] at which the accuracy is at least `level`, a fraction; NaN where it never is."""
    if "time_ms" not in curve:
        return math.nan
    reached = curve["time_ms"][(curve["acc"] >= level) & curve["time_ms"].notna()]
    return float(reached.iloc[0]) if len(reached) else math.nan


def chosen_columns(comparison: Comparison, names: Sequence[str] = ()) -> list[Column]:
    """The metrics of the tables: those named, else the usual ones that some run measured, and the chosen latency.

    Raises InputError for a metric that no run measured.
    """
    if names:
        return [measured_column(comparison, name) for name in names]
    usual = [metric(name) for name in COMPARED if comparison.has(name)]
    if not any(column.key.startswith("snn/") for column in usual):
        usual = [measured_column(comparison, "ann/test_acc")]
    return usual + ([comparison.latency] if comparison.latency.key not in COMPARED else [])


def measured_column(comparison: Comparison, key: str) -> Column:
    """The column of a metric. Raises InputError where no run measured it."""
    names = sorted(name for name in metric_names(comparison.runs) if numbers(comparison.runs, name).notna().any())
    if key not in [*names, "test_images"]:
        near = difflib.get_close_matches(key, names, n=3) or [name for name in COMPARED if name in names] or names[:6]
        raise InputError(f"no run measured {key!r}; there are {', '.join(near)}, ... (the names in metrics.json)")
    return metric(key)


def sorted_points(comparison: Comparison, by: str = "") -> list[int]:
    """The points, best first.

    by: a metric, the best end first, or a setting, ascending; a leading "-" reverses the order. Points without the number
    come last. Without `by`: final accuracy. Raises InputError for a name that is neither.
    """
    given, turned = by.removeprefix("-") or "snn/test_acc", by.startswith("-")
    points = comparison.points
    named = [(s, {s.key, s.typed, s.label, s.bare}) for s in comparison.settings]
    name = given if any(given in names for _, names in named) else new_key(given)
    setting = next((s for s, names in named if name in names), None)
    if setting:
        codes = points[setting.key].map(setting.code)
        return list(codes.sort_values(ascending=not turned, kind="stable").index)
    if not by and not comparison.has(name):
        name = "ann/test_acc"
    column = _sort_column(comparison, name)
    ascending = (column.better < 0) != turned
    means = comparison.means[column.key]
    return list(means.sort_values(ascending=ascending, kind="stable", na_position="last").index)


def _sort_column(comparison: Comparison, name: str) -> Column:
    if name == comparison.latency.key:
        return comparison.latency
    try:
        return measured_column(comparison, name)
    except InputError as error:
        settings = [setting.typed for setting in comparison.settings]
        near = difflib.get_close_matches(name, settings, n=2) or settings[:4]
        also = f"; or a setting: {', '.join(near)}" if near else ""
        raise InputError(f"--sort: {error}{also}") from error


def _too_few(runs: pd.DataFrame, failures: pd.DataFrame) -> str:
    there = f"only {runs['path'].iloc[0]} is finished" if len(runs) else "no run is finished"
    reason = ""
    if len(failures):
        reason = f" ({len(failures)} without a result, the first: {failures['failure'].iloc[0]})"
    return f"nothing to compare: {there}{reason}; give two runs or more, or the folder of a sweep"


def _codes(table: pd.DataFrame, settings: Sequence[Setting]) -> pd.DataFrame:
    """The position of each run's value among the values of each setting."""
    return pd.DataFrame({s.key: table[s.key].map(s.code) for s in settings}, index=table.index)


def _latest(runs: pd.DataFrame, codes: pd.DataFrame) -> list[str]:
    """The labels of the runs, without those of which a later run has the same settings and seed."""
    started = runs.get("provenance.started", pd.Series(None, runs.index))
    started = pd.to_datetime(started, utc=True, errors="coerce", format="ISO8601")
    started = started.sort_values(kind="stable", na_position="first")
    repeated = (
        codes.loc[started.index].duplicated(keep="last") if len(codes.columns) else started.index != started.index[-1]
    )
    newest = set(started.index[~repeated])
    return [label for label in runs.index if label in newest]


def _point_numbers(codes: pd.DataFrame) -> pd.Series:
    """The number of each run's point; points are in the order of their settings' values."""
    if codes.columns.empty:
        return pd.Series(0, codes.index)
    return codes.groupby(list(codes)).ngroup()


def _points(table: pd.DataFrame, runs: pd.DataFrame, settings: Sequence[Setting]) -> pd.DataFrame:
    first = runs.drop_duplicates("point").sort_values("point")
    points = table.loc[first.index, [s.key for s in settings]].set_axis(first["point"], axis="index")
    points = points.astype(object).where(points.notna(), None)
    points[DATA] = first["data"].to_numpy()
    points["runs"] = runs["point"].value_counts().sort_index()
    return points


def _known_data(failures: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """The failed jobs with the data set that they would have read: that of a run with the same data settings."""
    if failures.empty:
        return failures
    keys = [name for name in runs.columns if name.startswith("cfg.data.dataset")]
    known = {_same(run, keys): run["data"] for _, run in runs.iterrows()}
    data = pd.Series([known.get(_same(job, keys)) for _, job in failures.iterrows()], failures.index, dtype=object)
    return failures.assign(data=data)


def _same(run: pd.Series, keys: Sequence[str]) -> tuple[Any, ...]:
    return tuple(None if is_missing(run[key]) else run[key] for key in keys)


def _notes(
    points: pd.DataFrame, runs: pd.DataFrame, found: Sequence[Setting], repeats: int, failures: int
) -> list[str]:
    notes, sizes = [], runs["data"].value_counts(sort=False)
    if len(sizes) > 1:
        listed = ", ".join(f"{name} ({sizes[name]} runs)" for name in points["data"].unique())
        notes.append(f"Different data sets are compared: {listed}; best trade-offs are sought within each.")
    for setting in found:
        keys = [key for key in setting.along if "._" not in key]
        if keys:
            more = f" and {len(keys) - 6} more" if len(keys) > 6 else ""
            notes.append(f"Other settings change with the {setting.label}: {', '.join(keys[:6])}{more}.")
    reduced = [reason for reason in runs["reduced"].unique() if reason]
    if reduced:
        notes.append(f"Reduced runs, not comparable with published numbers: {' / '.join(reduced[:3])}.")
    if repeats:
        are = "run is" if repeats == 1 else "runs are"
        notes.append(f"{repeats} earlier {are} left out: a later run has the same settings and seed.")
    if failures:
        have = "job has" if failures == 1 else "jobs have"
        notes.append(f"{failures} {have} no result, listed with the reason.")
    return notes


def _tested_on_fewer(points: pd.DataFrame, means: pd.DataFrame) -> pd.Series:
    """Whether a point was tested on fewer images than another one of its data set."""
    images = means["test_images"]
    return images < images.groupby(points[DATA]).transform("max")


def _unranked(means: pd.DataFrame, latency: Column, fewer: pd.Series) -> list[str]:
    """Which points take no part in the best trade-offs.

    Networks of spike times have no latency in ms, so they cannot be ranked by it among networks of rates.
    """
    notes = []
    if few := int(fewer.sum()):
        said = "choices were" if few > 1 else "choice was"
        notes.append(f"{few} {said} tested on fewer images than others: no part in the best trade-offs.")
    apart = 0 if latency.unit != "ms" or "ttfs/latency" not in means else int(means["ttfs/latency"].notna().sum())
    said = f"{apart} choices use spike times: their latency is in input intervals, not in ms"
    return notes + ([f"{said}, and they take no part in the best trade-offs."] if apart else [])


def failed_at(comparison: Comparison, values: dict[str, Any]) -> bool:
    """Whether a job with these settings failed."""
    jobs = comparison.failures
    known = {key: _setting_of(jobs, key) for key in values}
    return any(all(known[key][i] == value for key, value in values.items()) for i in range(len(jobs)))


def axis_values(comparison: Comparison, setting: Setting) -> list[Any]:
    """The ascending values of a numeric setting, those of failed jobs included."""
    failed = _setting_of(comparison.failures, setting.key)
    return sorted({*setting.values, *(value for value in failed if is_number(value))})


def _setting_of(jobs: pd.DataFrame, key: str) -> list[Any]:
    values = jobs.get(DATA if key == DATA else f"cfg.{key}", pd.Series(None, jobs.index, dtype=object))
    return [None if is_missing(value) else value for value in values]
