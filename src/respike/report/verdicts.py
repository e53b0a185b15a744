"""The headline number of each run, the published one, and the verdict."""

import math
from typing import Any

import pandas as pd

from respike.errors import InputError
from respike.report.runs import is_missing, is_number

# A verdict needs a fraction of which more is better.
HEADLINES = ("ann/test_acc", "snn/test_acc", "snn/agreement")

SURPASSED = "surpassed"
REPRODUCED = "reproduced"
BELOW = "below"
REDUCED = "reduced: not comparable"
CHANGED = "settings changed: not comparable"
UNPUBLISHED = "no published number"
SKIPPED = "skipped"


def judge(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame of runs with these columns added; None where a run has no such value.

    method, source: the paper's title of the row, and where the number was published. headline: the metric that is judged.
    published, ours: its two values, fractions. difference: ours - published, fraction, only where a full run with the
    published settings meets a published number. tolerance: the largest |difference| that still counts as reproduced.
    verdict: one of the constants above. budget_min: time budget [min]. over_budget: whether the run took longer.

    Raises InputError when a run lacks its headline metric, or its published numbers are no fractions.
    """
    judged = pd.DataFrame([_judged(run) for _, run in frame.iterrows()], frame.index, JUDGED, dtype=object)
    return frame.join(judged)


JUDGED = (
    "method", "source", "headline", "published", "ours", "difference", "tolerance", "verdict", "budget_min",
    "over_budget",
)  # fmt: skip


def verdict(difference: float, tolerance: float) -> str:
    """The verdict on a difference to the published number; both are fractions, the boundary counts as reproduced."""
    if abs(difference) <= tolerance:
        return REPRODUCED
    return SURPASSED if difference > 0 else BELOW


def two_standard_errors(accuracy: float, images: int) -> float:
    """Two standard errors of a proportion, 2 sqrt(p (1 - p) / n), as a fraction."""
    return 2 * math.sqrt(accuracy * (1 - accuracy) / images)


def _judged(run: pd.Series) -> dict[str, Any]:
    method, source = (_text(run.get(f"cfg.paper.{key}")) for key in ("title", "source"))
    budget: Any = run.get("cfg.budget_min")
    spent: Any = run.get("time/total_s")
    budget = None if is_missing(budget) else float(budget)
    known = {
        "method": method,
        "source": source,
        "headline": "",
        "budget_min": budget,
        "over_budget": budget is not None and is_number(spent) and spent > 60 * budget,
    }
    if run["failure"]:
        return known | {"verdict": SKIPPED}
    headline = _headline(run)
    published = _published(run, headline)
    ours: Any = float(run[headline]) if is_number(run.get(headline)) else None
    if published is not None and ours is None:
        measured = ", ".join(metric for metric in HEADLINES if is_number(run.get(metric))) or "none of them"
        raise InputError(
            f"{run['path']}: judged on {headline}, which its metrics.json lacks; set paper.headline (measured: {measured})"
        )
    known |= {"headline": headline, "published": published, "ours": ours}
    if run["reduced"]:
        return known | {"verdict": REDUCED}
    if published is None:
        return known | {"verdict": UNPUBLISHED}
    if run["changed"]:
        return known | {"verdict": CHANGED}
    # Accuracies are multiples of 1/images: rounding keeps 0.99 - 0.98 on the boundary of 0.01.
    difference, tolerance = round(ours - published, 12), _tolerance(run, published)
    return known | {"difference": difference, "tolerance": tolerance, "verdict": verdict(difference, tolerance)}


def _headline(run: pd.Series) -> str:
    headline = run.get("cfg.paper.headline")
    if is_missing(headline):
        return "snn/test_acc" if is_number(run.get("snn/test_acc")) else "ann/test_acc"
    if headline not in HEADLINES:
        raise InputError(f"{run['path']}: paper.headline is {headline!r}; expected one of {', '.join(HEADLINES)}")
    return headline


def _published(run: pd.Series, headline: str) -> float | None:
    """The published value of the headline; every published accuracy of the run is checked."""
    values = {metric: run.get(f"cfg.paper.published.{metric}") for metric in HEADLINES}
    given = {
        metric: _fraction(value, f"{run['path']}: paper.published.{metric}")
        for metric, value in values.items()
        if not is_missing(value)
    }
    return given.get(headline)


def _tolerance(run: pd.Series, published: float) -> float:
    given = run.get("cfg.paper.tolerance")
    if not is_missing(given):
        return _fraction(given, f"{run['path']}: paper.tolerance")
    images = run["test_images"]
    if not isinstance(images, int) or images < 1:
        raise InputError(f"{run['path']}: metrics.json has test_images {images!r}; expected a whole number from 1 up")
    return two_standard_errors(published, images)


def _fraction(value: Any, where: str) -> float:
    if not is_number(value) or not 0 <= value <= 1:
        raise InputError(f"{where} is {value!r}; expected a fraction from 0 to 1, 0.986 for 98.6 %")
    return float(value)


def _text(value: Any) -> str:
    return "" if is_missing(value) else str(value)
