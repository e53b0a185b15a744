"""The compared runs as rows: sorted as asked, for the terminal, the page and as CSV."""

import csv
import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from respike.errors import InputError
from respike.report.collect import REQUIRED_METRICS, Run
from respike.report.comparison.gather import Comparison
from respike.report.comparison.measures import DEFAULT, Measure, measured, metric
from respike.report.comparison.points import Point
from respike.report.comparison.varied import DATA, flat_settings, shown

BEST = "best"
GAP = "  "


def chosen_measures(comparison: Comparison, names: Sequence[str] = ()) -> list[Measure]:
    """The measures of the columns: those named, else the usual ones that some run has, and the latency chosen.

    Raises InputError for a metric that no run has.
    """
    runs = comparison.runs
    if names:
        return [measured(name, runs) for name in names]
    usual = [metric(name) for name in DEFAULT if any(run.number(name) is not None for run in runs)]
    if not any(m.key.startswith("snn/") for m in usual):
        usual = [measured("ann/test_acc", runs)]
    return usual + ([comparison.latency] if comparison.latency.key not in DEFAULT else [])


def sorted_points(comparison: Comparison, by: str = "") -> list[Point]:
    """The points, best first.

    by: a metric, the best end first, or a setting, ascending; a leading "-" turns it around. Points without the
    number come last. Without `by`: final accuracy. Raises InputError for a name that is neither.
    """
    name = by.removeprefix("-") or "snn/test_acc"
    setting = next((s for s in comparison.settings if name in (s.key, s.typed, s.label, s.bare)), None)
    if setting:
        order = {value: i for i, value in enumerate(setting.values)}
        return sorted(comparison.points, key=lambda p: order[p.values[setting.key]], reverse=by.startswith("-"))
    if not by and not any(run.number(name) is not None for run in comparison.runs):
        name = "ann/test_acc"
    measure = _sort_measure(comparison, name)
    sign = (measure.better or 1) * (-1 if by.startswith("-") else 1)
    means = {id(point): point.mean(measure) for point in comparison.points}
    known = [point for point in comparison.points if means[id(point)] is not None]
    unknown = [point for point in comparison.points if means[id(point)] is None]
    return sorted(known, key=lambda point: -sign * means[id(point)]) + unknown


def _sort_measure(comparison: Comparison, name: str) -> Measure:
    if name == comparison.latency.key:
        return comparison.latency
    try:
        return measured(name, comparison.runs)
    except InputError as error:
        settings = [setting.typed for setting in comparison.settings]
        near = difflib.get_close_matches(name, settings, n=2) or settings[:4]
        also = f"; or a setting: {', '.join(near)}" if near else ""
        raise InputError(f"--sort: {error}{also}") from error


def headings(comparison: Comparison, measures: Sequence[Measure]) -> list[str]:
    """One per cell of `cells`."""
    seeds = [comparison.repeated] if comparison.seeds else []
    data = [] if any(s.key == DATA for s in comparison.settings) else ["data set"]
    return [*(s.label for s in comparison.settings), *data, *seeds, *(m.heading for m in measures), BEST]


def cells(comparison: Comparison, point: Point, measures: Sequence[Measure]) -> list[tuple[str, Any]]:
    """(text, value to sort by) of each column; means with half their 95 % interval."""
    row = [(shown(point.values[s.key]), s.values.index(point.values[s.key])) for s in comparison.settings]
    if not any(s.key == DATA for s in comparison.settings):
        row.append((point.data, point.data))
    if comparison.seeds:
        row.append((str(len(point.runs)), len(point.runs)))
    for measure in measures:
        mean, half = point.mean(measure), point.interval(measure)
        text = measure.text(mean) + (f" ± {measure.text(half)}" if half is not None else "")
        row.append((text, "" if mean is None else mean))
    best = point in comparison.best
    return [*row, ("●" if best else "", int(best))]


def to_text(comparison: Comparison, points: Sequence[Point], measures: Sequence[Measure], most: int = 20) -> str:
    """An aligned table of the first `most` points; headings wrap into their columns."""
    body = [[text for text, _ in cells(comparison, point, measures)] for point in points[:most]]
    stacks = [heading.split(" ") for heading in headings(comparison, measures)]
    widths = [max(map(len, [*stack, *column])) for stack, column in zip(stacks, zip(*body, strict=True), strict=True)]
    deepest = max(map(len, stacks))
    heads = [[""] * (deepest - len(stack)) + stack for stack in stacks]
    lines = [*zip(*heads, strict=True), ["-" * width for width in widths], *body]
    text = [GAP.join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    more = [f"... and {len(points) - most} more in comparison.csv"] if len(points) > most else []
    return "\n".join([*text, *more])


def to_csv(comparison: Comparison, points: Sequence[Point], path: Path) -> None:
    """One line per run, point after point: settings as they stand in the config, every metric, and where it lies."""
    records = [_record(comparison, point, run) for point in points for run in point.runs]
    fields = dict.fromkeys(name for record in records for name in record)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fields, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)


def _record(comparison: Comparison, point: Point, run: Run) -> dict[str, Any]:
    flat = flat_settings(run.config, point.data)
    settings = {s.typed: flat.get(s.key) for s in (*comparison.settings, *comparison.seeds)}
    known = {DATA: point.data, "reduced": run.reduced, "best_trade_off": int(point in comparison.best)}
    late = {} if comparison.latency.key in run.metrics else {comparison.latency.key: comparison.latency.of(run)}
    metrics = {name: run.metrics[name] for name in sorted(run.metrics) if name not in REQUIRED_METRICS}
    return settings | known | late | metrics | {"test_images": run.metrics["test_images"], "run": os.fspath(run.path)}


def means_to_csv(comparison: Comparison, points: Sequence[Point], measures: Sequence[Measure], path: Path) -> None:
    """One line per point: its settings, the number of seeds or trials, each measure's mean and half its 95 % interval."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        columns = [name for m in measures for name in (m.key, f"{m.key} ±")]
        writer.writerow([*(s.typed for s in comparison.settings), comparison.repeated, *columns, "best_trade_off"])
        for point in points:
            numbers = [number for m in measures for number in (point.mean(m), point.interval(m))]
            values = [point.values[s.key] for s in comparison.settings]
            writer.writerow([*values, len(point.runs), *numbers, int(point in comparison.best)])
