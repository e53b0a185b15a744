"""Runs that differ in nothing but the seed, or the trial of a noise, are one point: a mean and the interval left."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy import stats

from respike.report.collect import Run
from respike.report.comparison.measures import Measure
from respike.report.comparison.varied import DATA, MISSING, Setting

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Point:
    """One choice of settings: its value of each (a key of `values` per setting) and its runs, one per seed."""

    values: Mapping[str, Any]
    runs: tuple[Run, ...]

    @property
    def data(self) -> str:
        """The data set."""
        return str(self.runs[0].metrics["data"])

    def mean(self, measure: Measure) -> float | None:
        """Over the seeds; None where a run did not measure it."""
        return mean_of([measure.of(run) for run in self.runs])

    def interval(self, measure: Measure) -> float | None:
        """Half the 95 % interval of the mean; None for a single seed."""
        return half_interval([measure.of(run) for run in self.runs])

    def curve(self) -> dict[str, list[float]]:
        """The mean curve over the seeds; empty where they have none in common."""
        curves = [run.curve for run in self.runs]
        steps = curves[0].get("step")
        if not steps or any(curve.get("step") != steps for curve in curves):
            return {}
        columns = [name for name in curves[0] if all(name in curve for curve in curves)]
        return {name: [sum(at) / len(at) for at in zip(*(c[name] for c in curves), strict=True)] for name in columns}

    def band(self) -> list[float]:
        """Half the 95 % interval of the accuracy at each step of `curve`; empty for a single seed."""
        if len(self.runs) < 2 or not self.curve():
            return []
        return [half_interval(at) or 0.0 for at in zip(*(run.curve["acc"] for run in self.runs), strict=True)]


def mean_of(values: Sequence[float | None]) -> float | None:
    """The mean; None where a value is missing."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def half_interval(values: Sequence[float | None]) -> float | None:
    """Half the width of Student's 95 % interval of the mean, t(0.975, n - 1) s / sqrt(n); None for fewer than two."""
    known = [value for value in values if value is not None]
    n = len(known)
    if n < 2 or n < len(values):
        return None
    if min(known) == max(known):  # the mean of equal numbers may be off by a rounding
        return 0.0
    mean = sum(known) / n
    deviation = math.sqrt(sum((value - mean) ** 2 for value in known) / (n - 1))
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * deviation / math.sqrt(n)


def pool(
    runs: Sequence[Run], flats: Sequence[Mapping[str, Any]], settings: Sequence[Setting]
) -> tuple[list[Point], list[Run]]:
    """Points in order of their values, and the runs left out because a later one has the same settings and seed."""
    newest: dict[tuple, tuple[Run, Mapping[str, Any]]] = {}
    for run, flat in sorted(zip(runs, flats, strict=True), key=lambda pair: str(pair[0].provenance.get("started"))):
        newest[tuple(flat.get(setting.key, MISSING) for setting in settings)] = run, flat
    kept = {id(run) for run, _ in newest.values()}
    choices = [setting for setting in settings if not setting.is_seed]
    found: dict[tuple, list[Run]] = {}
    for run, flat in newest.values():
        found.setdefault(tuple(flat.get(setting.key, MISSING) for setting in choices), []).append(run)
    ordered = sorted(found, key=lambda values: [s.values.index(v) for s, v in zip(choices, values, strict=True)])
    points = [
        Point({s.key: v for s, v in zip(choices, values, strict=True)}, tuple(found[values])) for values in ordered
    ]
    return points, [run for run in runs if id(run) not in kept]


def same_data(points: Sequence[Point]) -> dict[str, list[Point]]:
    """The points by data set: numbers of different ones are never ranked against each other."""
    found: dict[str, list[Point]] = {}
    for point in points:
        found.setdefault(str(point.values.get(DATA, point.data)), []).append(point)
    return found
