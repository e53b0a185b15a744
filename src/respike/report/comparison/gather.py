"""Runs in, a comparison out: what varies, one point per choice of settings, the best trade-offs, what is missing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from respike.errors import InputError
from respike.report.collect import Failure, Run
from respike.report.comparison.measures import Measure, latency, metric
from respike.report.comparison.points import Point, pool, same_data
from respike.report.comparison.trade_off import front
from respike.report.comparison.varied import DATA, MISSING, Setting, flat_settings, typed_keys, varied_settings


@dataclass(frozen=True)
class Comparison:
    """What tables and figures read.

    settings: those that vary, seeds left out; seeds: those averaged over, trials too. points: one per choice of settings.
    failures: jobs without a result, with the values of the settings in `failed_values`, in the same order.
    objectives: accuracy, latency, energy. best: the points no other beats in these. notes: lines a reader needs.
    """

    settings: tuple[Setting, ...]
    seeds: tuple[Setting, ...]
    points: tuple[Point, ...]
    failures: tuple[Failure, ...]
    failed_values: tuple[Mapping[str, Any], ...]
    objectives: tuple[Measure, Measure, Measure]
    best: tuple[Point, ...]
    notes: tuple[str, ...]

    @property
    def runs(self) -> list[Run]:
        """All runs, point after point."""
        return [run for point in self.points for run in point.runs]

    @property
    def latency(self) -> Measure:
        """How the time of an answer is measured."""
        return self.objectives[1]

    def name(self, point: Point, without: Sequence[str] = ()) -> str:
        """What sets the point apart: "data_norm, threshold 0.5, rate 400 Hz"."""
        settings = [setting for setting in self.settings if setting.key not in without]
        said = [s.say(point.values[s.key]) for s in settings if point.values[s.key] is not MISSING]
        return ", ".join(said) or ("default" if settings else "all runs")

    def measured_on(self) -> str:
        """Data and size: "500 test images of MNIST"; each data set once."""
        sizes = {(point.data, int(run.metrics["test_images"])) for point in self.points for run in point.runs}
        return " and ".join(f"{images:,} test images of {data}" for data, images in sorted(sizes))

    @property
    def repeated(self) -> str:
        """What is averaged over: "seeds", "trials" of noise, or both."""
        return " and ".join(sorted({f"{setting.key.split('.')[-1]}s" for setting in self.seeds})) or "seeds"

    def seed_note(self) -> str:
        """How many seeds or trials a number is the mean of; "" for one."""
        numbers = sorted({len(point.runs) for point in self.points})
        if numbers[-1] < 2:
            return ""
        return (
            f"mean of {' to '.join(map(str, dict.fromkeys((numbers[0], numbers[-1]))))} {self.repeated}, 95 % interval"
        )


def compare(runs: Sequence[Run], failures: Sequence[Failure] = (), latency_by: str = "within") -> Comparison:
    """Lay runs beside each other.

    latency_by: "within" or an accuracy as a fraction, see `measures.latency`.
    Raises InputError when there is nothing to compare.
    """
    timed = latency(latency_by)
    if len(runs) < 2:
        raise InputError(_too_few(runs, failures))
    if latency_by == "within" and all(timed.of(run) is None for run in runs):
        keys = (
            "ttfs/latency",
            "snn/steps_to_1pct",
        )  # spike times are read once; steps of directly trained nets have no ms
        timed = next((metric(key) for key in keys if any(run.number(key) is not None for run in runs)), timed)
    flats = [flat_settings(run.config, str(run.metrics["data"])) for run in runs]
    found = varied_settings(flats, {key for run in runs for key in typed_keys(str(run.metrics.get("changed") or ""))})
    points, repeats = pool(runs, flats, found)
    if len(points) < 2 and len(points[0].runs) < 2:
        raise InputError(
            f"nothing to compare: the {len(runs)} runs have the same settings and seed; "
            "give runs that differ, such as those of -m simulate.threshold=0.5,1,2"
        )
    settings = tuple(setting for setting in found if not setting.is_seed)
    spent = "energy/snn_nj" if any(run.number("energy/snn_nj") is not None for run in runs) else "snn/spikes_per_image"
    objectives = metric("snn/test_acc"), timed, metric(spent)
    return Comparison(
        settings,
        tuple(setting for setting in found if setting.is_seed),
        tuple(points),
        tuple(failures),
        tuple(_failed_values(failure, settings, runs) for failure in failures),
        objectives,
        tuple(front(points, objectives)),
        tuple(_notes(points, repeats, found, failures) + _unranked(points, timed)),
    )


def _too_few(runs: Sequence[Run], failures: Sequence[Failure]) -> str:
    there = f"only {runs[0].path} is finished" if runs else "no run is finished"
    reason = f" ({len(failures)} without a result, the first: {failures[0].reason})" if failures else ""
    return f"nothing to compare: {there}{reason}; give two runs or more, or the folder of a sweep"


def _failed_values(failure: Failure, settings: Sequence[Setting], runs: Sequence[Run]) -> dict[str, Any]:
    """What the job would have had; its data set is called as that of a run that read the same files."""
    source = _dataset(failure.config)
    data = next((str(run.metrics["data"]) for run in runs if _dataset(run.config) == source), None)
    flat = flat_settings(failure.config, data)
    return {setting.key: flat.get(setting.key) for setting in settings}


def _dataset(config: Mapping[str, Any]) -> Any:
    data = config.get("data")
    return data.get("dataset") if isinstance(data, Mapping) else None


def _notes(
    points: Sequence[Point], repeats: Sequence[Run], found: Sequence[Setting], failures: Sequence[Failure]
) -> list[str]:
    groups, notes = same_data(points), []
    if len(groups) > 1:
        sizes = ", ".join(f"{name} ({sum(len(p.runs) for p in group)} runs)" for name, group in groups.items())
        notes.append(f"Different data sets are compared: {sizes}; best trade-offs are sought within each.")
    along = {setting: [key for key in setting.along if "._" not in key] for setting in found}
    for setting, keys in along.items():
        if keys:
            more = f" and {len(keys) - 6} more" if len(keys) > 6 else ""
            notes.append(f"With the {setting.label} also change: {', '.join(keys[:6])}{more}.")
    reduced = dict.fromkeys(run.reduced for point in points for run in point.runs if run.reduced)
    if reduced:
        notes.append(f"Reduced runs, not to be held against published numbers: {' / '.join(list(reduced)[:3])}.")
    if repeats:
        are = "run is" if len(repeats) == 1 else "runs are"
        notes.append(f"{len(repeats)} earlier {are} left out, of the same settings and seed as a later one.")
    if failures:
        have = "job has" if len(failures) == 1 else "jobs have"
        notes.append(f"{len(failures)} {have} no result, listed with the reason.")
    return notes


def _unranked(points: Sequence[Point], timed: Measure) -> list[str]:
    """Spike times are read once, and not in ms: beside rates they have no place in the ranking by latency."""
    apart = [p for p in points if timed.unit == "ms" and p.mean(metric("ttfs/latency")) is not None]
    said = f"{len(apart)} choices are of spike times: their latency is in input intervals, not in ms"
    return [f"{said}, and they take no part in the best trade-offs."] if apart else []


def panels(comparison: Comparison, without: Sequence[str]) -> dict[str, list[Point]]:
    """The points by the settings not drawn on an axis or as a colour: title -> points; a single panel has none."""
    found: dict[str, list[Point]] = {}
    for point in comparison.points:
        found.setdefault(comparison.name(point, without), []).append(point)
    return found if len(found) > 1 else {"": list(comparison.points)}


def axes_of(comparison: Comparison) -> tuple[Setting, ...]:
    """The numeric settings to draw along, most telling first: threshold and rate, else those with most values."""
    usual = ("simulate.threshold", "encode.max_rate")
    numeric = [s for s in comparison.settings if s.numeric and len(s.values) > 1 and s.key != DATA]
    return tuple(sorted(numeric, key=lambda s: (usual.index(s.key) if s.key in usual else 2, -len(s.values))))
