"""The rows of the report: one per run, its headline number held against the published one, and the verdict."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from respike.errors import InputError
from respike.report.collect import Run

# A verdict needs a fraction of which more is better.
HEADLINES = ("ann/test_acc", "snn/test_acc", "snn/agreement")

SURPASSED = "surpassed"
REPRODUCED = "reproduced"
BELOW = "below"
REDUCED = "reduced: not comparable"
CHANGED = "settings changed: not comparable"
UNPUBLISHED = "no published number"
SKIPPED = "skipped"


@dataclass(frozen=True)
class Row:
    """One line of the tables.

    name: unique among the rows. method: the paper's title of the row. source: where the number was published.
    headline: the metric the row is judged on. published, ours: its two values, fractions, or None.
    difference: ours - published, fraction; None unless a full run meets a published number.
    tolerance: the largest |difference| that still reproduces, fraction; None where difference is.
    data: data set. reduced: why the run is smaller than the published one, "" for a full run.
    skipped: why there is no run, "" where there is one. run: the run, None for a skipped row.
    """

    name: str
    verdict: str
    method: str = ""
    source: str = ""
    headline: str = ""
    published: float | None = None
    ours: float | None = None
    difference: float | None = None
    tolerance: float | None = None
    data: str = ""
    reduced: str = ""
    skipped: str = ""
    run: Run | None = None

    def number(self, metric: str) -> float | None:
        """The run's metric, or None where it was not measured or the row was skipped."""
        return self.run.number(metric) if self.run else None

    @property
    def budget_min(self) -> float | None:
        """Time budget in minutes, None where none was set."""
        budget = self.run.config.get("budget_min") if self.run else None
        return None if budget is None else float(budget)

    @property
    def over_budget(self) -> bool:
        """Whether the run took longer than its budget."""
        spent = self.number("time/total_s")
        return spent is not None and self.budget_min is not None and spent > 60 * self.budget_min


def rows(runs: Sequence[Run], skipped: Mapping[str, str]) -> list[Row]:
    """One row per run, in the order given, then one per skipped row (name -> reason).

    Raises InputError when a run lacks its headline metric or is given twice, or its published numbers are no fractions.
    """
    done = [_row(run, name) for run, name in zip(runs, labels(runs), strict=True)]
    return done + [Row(name=name, verdict=SKIPPED, skipped=reason) for name, reason in skipped.items()]


def labels(runs: Sequence[Run]) -> list[str]:
    """A unique name per run: its own; where several share one, with as much of the path's end as tells them apart."""
    return [_label(run, [other for other in runs if other.name == run.name]) for run in runs]


def _label(run: Run, namesakes: Sequence[Run]) -> str:
    if len(namesakes) == 1:
        return run.name
    for depth in range(1, len(run.path.parts)):
        end = run.path.parts[-depth:]
        if sum(other.path.parts[-depth:] == end for other in namesakes) == 1:
            return f"{run.name} ({'/'.join(end)})"
    raise InputError(f"{run.path}: given twice; give each run once")


def verdict(difference: float, tolerance: float) -> str:
    """What a difference to the published number means; both fractions, the boundary counts as reproduced."""
    if abs(difference) <= tolerance:
        return REPRODUCED
    return SURPASSED if difference > 0 else BELOW


def two_standard_errors(accuracy: float, images: int) -> float:
    """Two standard errors of a proportion, 2 sqrt(p (1 - p) / n), as a fraction."""
    return 2 * math.sqrt(accuracy * (1 - accuracy) / images)


def _row(run: Run, name: str) -> Row:
    headline = _headline(run)
    published = published_number(run, headline)
    ours = run.number(headline)
    if published is not None and ours is None:
        measured = ", ".join(metric for metric in HEADLINES if run.number(metric) is not None) or "none of them"
        raise InputError(
            f"{run.path}: judged on {headline}, which its metrics.json lacks; set paper.headline (measured: {measured})"
        )
    difference = tolerance = None
    changed = bool(run.metrics.get("changed"))
    outcome = REDUCED if run.reduced else CHANGED if changed and published is not None else UNPUBLISHED
    if published is not None and not run.reduced and not changed:
        # Accuracies are multiples of 1/images: rounding keeps 0.99 - 0.98 on the boundary of 0.01.
        difference, tolerance = round(ours - published, 12), _tolerance(run, published)
        outcome = verdict(difference, tolerance)
    return Row(
        name=name,
        verdict=outcome,
        method=str(run.paper.get("title") or ""),
        source=str(run.paper.get("source") or ""),
        headline=headline,
        published=published,
        ours=ours,
        difference=difference,
        tolerance=tolerance,
        data=str(run.metrics["data"]),
        reduced=run.reduced,
        run=run,
    )


def _headline(run: Run) -> str:
    headline = run.paper.get("headline")
    if headline is None:
        return "snn/test_acc" if run.number("snn/test_acc") is not None else "ann/test_acc"
    if headline not in HEADLINES:
        raise InputError(f"{run.path}: paper.headline is {headline!r}; expected one of {', '.join(HEADLINES)}")
    return headline


def published_number(run: Run, metric: str) -> float | None:
    """The paper's value of a metric, a fraction, or None where it gives none.

    Raises InputError when it is not a fraction (98.6 instead of 0.986).
    """
    value = (run.paper.get("published") or {}).get(metric)
    return None if value is None else _fraction(value, f"{run.path}: paper.published.{metric}")


def _tolerance(run: Run, published: float) -> float:
    given = run.paper.get("tolerance")
    if given is not None:
        return _fraction(given, f"{run.path}: paper.tolerance")
    images = run.metrics["test_images"]
    if not isinstance(images, int) or images < 1:
        raise InputError(f"{run.path}: metrics.json has test_images {images!r}; expected a whole number from 1 up")
    return two_standard_errors(published, images)


def _fraction(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InputError(f"{where} is {value!r}; expected a fraction from 0 to 1, 0.986 for 98.6 %")
    return float(value)
