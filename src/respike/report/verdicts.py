"""The headline number of each row, the published one, what departs from the published protocol, and the verdict.

A row is one run, or several that differ in the seed alone. A number is held against a published one only if the protocol and
the data are those of the paper (`respike.runs.protocol`). With another recipe than the published network's the verdict says so.
"""

import json
import math
import re
from typing import Any

import pandas as pd

from respike.errors import InputError
from respike.metrics.interval import half_interval
from respike.report.runs import DEPARTURES, below, is_missing, is_number
from respike.report.seeds import merge_seeds
from respike.runs.protocol import departures_of_old
from respike.runs.settings import HEADLINES

SURPASSED = "surpassed"
REPRODUCED = "reproduced"
BELOW = "below"
COMPARED = (REPRODUCED, SURPASSED, BELOW)
OTHER_RECIPE = {
    REPRODUCED: "reproduced, with another recipe",
    SURPASSED: "above, with another recipe",
    BELOW: "below, with another recipe",
}
OTHER_DATA = "other data: not comparable"
REDUCED = "reduced: not comparable"
CHANGED = "settings changed: not comparable"
OWN = "own number: not a published one"
UNPUBLISHED = "no published number"
SKIPPED = "skipped"

JUDGED = (
    "method", "source", "headline", "published", "ours", "difference", "tolerance", "verdict", "departs", "budget_min",
    "over_budget",
)  # fmt: skip
CONVERSIONS = {
    "data_norm": "data-normalized",
    "no_norm": "unnormalized",
    "model_norm": "weight-normalized",
    "percentile_norm": "percentile-normalized",
}


def judge(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of a frame of runs, those of several seeds merged, with these columns added; None where there is no value.

    method, source: the paper's title of the row, and where the number was published. headline: the metric that is judged.
    published, ours: its two values, fractions. difference: ours - published, fraction, only where they are comparable.
    tolerance: the largest |difference| that still counts as reproduced. verdict: one of the constants above. departs: what
    departs from the published run, one text each. budget_min: time budget [min]. over_budget: whether the run took longer,
    without what an earlier one did for it.

    A row that cannot be judged gets the reason as its failure, and the verdict `skipped`.
    """
    rows = merge_seeds(frame)
    rows[list(DEPARTURES)] = pd.DataFrame([_departures(run) for _, run in rows.iterrows()], rows.index, DEPARTURES)
    judged = pd.DataFrame([_row(run) for _, run in rows.iterrows()], rows.index, [*JUDGED, "failure"], dtype=object)
    return rows.drop(columns="failure").join(judged)


def verdict(difference: float, tolerance: float) -> str:
    """The verdict on a difference to the published number; both are fractions, the boundary counts as reproduced."""
    if abs(difference) <= tolerance:
        return REPRODUCED
    return SURPASSED if difference > 0 else BELOW


def standard_error(accuracy: float, images: int) -> float:
    """Standard error of a proportion, sqrt(p (1 - p) / n), as a fraction."""
    return math.sqrt(accuracy * (1 - accuracy) / images)


def is_compared(run: pd.Series) -> bool:
    """Whether a judged row is held against a published number."""
    return run["verdict"] in (*COMPARED, *OTHER_RECIPE.values())


def _departures(run: pd.Series) -> dict[str, str]:
    """What the run itself found; for a run from before it did, what its config tells."""
    if run["failure"] or not is_missing(run.get("differs")):
        return {name: _text(run.get(name)) for name in DEPARTURES}
    return departures_of_old(
        below(run, "cfg."), _text(run["data"]), _text(run.get("provenance.data.sha256")), run["changed"]
    )


def _row(run: pd.Series) -> dict[str, Any]:
    try:
        return _judged(run) | {"failure": run["failure"]}
    except (InputError, TypeError, ValueError) as error:
        unknown = {"budget_min": None, "over_budget": False}
        return _known(run) | unknown | {"failure": " ".join(str(error).split()), "verdict": SKIPPED}


def _known(run: pd.Series) -> dict[str, Any]:
    """What is known of every row, judged or not."""
    return {"method": _title(run), "source": _text(run.get("cfg.paper.source")), "headline": "", "departs": ()}


def own_seconds(runs: pd.DataFrame) -> pd.Series:
    """The seconds of each run without what an earlier one did for it; nan if they are unknown."""
    parts = ("fit", "convert")
    earlier = sum((runs[f"time/{part}_s"] * (runs[f"time/{part}_was_cached"] == 1)).fillna(0) for part in parts)
    return runs["time/total_s"] - earlier


def _spent(run: pd.Series) -> float:
    """`own_seconds` of a run, of several seeds their mean."""
    names = ("time/total_s", "time/fit_s", "time/convert_s", "time/fit_was_cached", "time/convert_was_cached")
    times = pd.DataFrame({name: run["over_seeds"].get(name, [run.get(name)] * run["seeds"]) for name in names})
    return float(own_seconds(times.apply(pd.to_numeric, errors="coerce")).mean())


def _judged(run: pd.Series) -> dict[str, Any]:
    budget: Any = run.get("cfg.budget_min")
    budget = None if is_missing(budget) else float(budget)
    over = budget is not None and _spent(run) > 60 * budget
    known = _known(run) | {"budget_min": budget, "over_budget": over}
    if run["failure"]:
        return known | {"verdict": SKIPPED}
    headline = _headline(run)
    published = _published(run, headline)
    published_curve(run)
    ours: Any = float(run[headline]) if is_number(run.get(headline)) else None
    if published is not None and ours is None:
        measured = ", ".join(metric for metric in HEADLINES if is_number(run.get(metric))) or "none of them"
        path = next(iter(run["lacks"].get(headline, ())), run["path"])
        raise InputError(
            f"{path}: judged on {headline}, which its metrics.json lacks; set paper.headline (measured: {measured})"
        )
    known |= {"headline": headline, "published": published, "ours": ours, "departs": _departing(run)}
    reason = _not_comparable(run, published)
    if reason or published is None or ours is None:
        return known | {"verdict": reason, "published": None if reason == OWN else published}
    # Accuracies are multiples of 1/images: rounding keeps 0.99 - 0.98 on the boundary of 0.01.
    difference, tolerance = round(ours - published, 12), _tolerance(run, published)
    found = verdict(difference, tolerance)
    said = OTHER_RECIPE[found] if run["other_recipe"] else found
    return known | {"difference": difference, "tolerance": tolerance, "verdict": said}


def _not_comparable(run: pd.Series, published: float | None) -> str:
    """The verdict on a row that is not held against a published number, "" for one that is."""
    own = any(part.startswith("paper") for part in run["differs"].split("; "))
    reasons = {
        OWN: own and published is not None,
        REDUCED: run["reduced"],
        UNPUBLISHED: published is None,
        OTHER_DATA: run["other_data"],
        CHANGED: run["differs"],
    }
    return next((verdict for verdict, applies in reasons.items() if applies), "")


def _departing(run: pd.Series) -> tuple[str, ...]:
    """In which a row departs from the published run, one text each."""
    parts = (
        f"reduced: {run['reduced']}" if run["reduced"] else "",
        f"data: {run['other_data']}" if run["other_data"] else "",
        run["other_recipe"] if any(is_number(run.get(f"cfg.paper.published.{metric}")) for metric in HEADLINES) else "",
        f"settings: {run['differs']}" if run["differs"] else "",
        "calibrated on the test images" if calibrated_on(run) == "test" else "",
    )
    return tuple(filter(None, parts))


def calibrated_on(run: pd.Series) -> str:
    """Which images gave the scales of the conversion, "train" or "test"; "" without a conversion by images."""
    told = run.get("calibrated_on")  # early runs do not tell it
    if isinstance(told, str):
        return "test" if "test" in told else "train" if told else ""
    return _text(run.get("cfg.callbacks.convert.calibrate_on"))


def _title(run: pd.Series) -> str:
    """The paper's title, with the conversion and the input rate that were used where the title names others."""
    title, target = _text(run.get("cfg.paper.title")), _text(run.get("cfg.convert._target_")).rpartition(".")[2]
    used, rate = CONVERSIONS.get(target), run.get("cfg.encode.max_rate")
    if used:
        title = re.sub("|".join(CONVERSIONS.values()), used, title)
    return re.sub(r"\b[\d.]+ Hz\b", f"{rate:g} Hz", title) if is_number(rate) else title


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


def published_curve(run: pd.Series) -> list[tuple[float, float]]:
    """The points (time [ms], accuracy) of paper.curve. Raises InputError for anything else."""
    given: Any = run.get("cfg.paper.curve")
    try:
        points = [] if is_missing(given) else [(float(time), float(accuracy)) for time, accuracy in json.loads(given)]
    except (TypeError, ValueError) as error:
        raise InputError(f"{run['path']}: paper.curve is {given!r}; expected [[ms, accuracy], ...]") from error
    return points


def _tolerance(run: pd.Series, published: float) -> float:
    """Half the 95 % interval of the difference, unless paper.tolerance is given.

    Of the published number: two standard errors, those of its test images, or paper.standard_error, of a published mean over
    seeds. Of ours: two standard errors of the test images, or half the interval of the mean over our seeds (Student's t), the
    larger one. The two are added as independent errors are.
    """
    given, of_theirs = run.get("cfg.paper.tolerance"), run.get("cfg.paper.standard_error")
    if not is_missing(given):
        return _fraction(given, f"{run['path']}: paper.tolerance")
    images = run["test_images"]
    theirs = (
        standard_error(published, images)
        if is_missing(of_theirs)
        else _fraction(of_theirs, f"{run['path']}: paper.standard_error")
    )
    headline = _headline(run)
    ours = 2 * standard_error(float(run[headline]), images)
    if run["seeds"] > 1:
        ours = max(ours, half_interval(run["over_seeds"][headline]))
    return math.hypot(2 * theirs, ours)


def _fraction(value: Any, where: str) -> float:
    if not is_number(value) or not 0 <= value <= 1:
        raise InputError(f"{where} is {value!r}; expected a fraction from 0 to 1, 0.986 for 98.6 %")
    return float(value)


def _text(value: Any) -> str:
    return "" if is_missing(value) else str(value)
