"""The columns of every table: a metric or another cell of a run, its heading, its unit and how it is written.

To add a metric to the tables, add it to METRICS and name it in the tuple of the table: RESULTS, DETAILS or SIDE_BY_SIDE of
the report, COMPARED of the comparison.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from respike.metrics.interval import half_interval
from respike.report.runs import DEPARTURES, is_missing, is_number
from respike.report.verdicts import OWN, UNPUBLISHED, is_compared

NOTHING = "–"


@dataclass(frozen=True)
class Column:
    """A column of a table.

    key: the metric's name, or another name for a text. words: for headings of a comparison. unit: "%" and "points"
    stand for fractions that are shown times 100. better: 1 where more is better, -1 where less is, 0 if unknown.
    short: heading in the report's tables, where cells carry their unit. title: heading of a figure.
    of: run -> text, for a cell that is more than one metric.
    """

    key: str
    words: str
    unit: str = ""
    better: int = 0
    short: str = ""
    title: str = ""
    of: Callable[[pd.Series], str] | None = None
    is_number: bool = True

    @property
    def heading(self) -> str:
        """Words and unit: "spikes per image", "final accuracy (%)"."""
        return f"{self.words} ({self.unit})" if self.unit else self.words

    @property
    def short_heading(self) -> str:
        """The heading in the report's tables."""
        return self.short or self.heading

    @property
    def figure_title(self) -> str:
        """The heading of a figure."""
        return self.title or self.words[0].upper() + self.words[1:]

    def scaled(self, value: Any) -> Any:
        """The value, or a Series of values, in the heading's unit."""
        return 100 * value if self.unit in ("%", "points") else value

    def text(self, value: Any) -> str:
        """The value in the heading's unit, without the unit."""
        if is_missing(value):
            return NOTHING
        if self.unit == "%":
            return percent(value).removesuffix(" %")
        return f"{self.scaled(value):.2f}" if self.unit == "points" else count(value)

    def half_text(self, half: Any) -> str:
        """Half an interval of the value, behind it."""
        return f"{self.scaled(half):.2f}" if self.unit in ("%", "points") else count(half)

    def cell(self, run: pd.Series) -> str:
        """The cell of a row of the report's frame, with its unit."""
        if self.of is not None:
            return self.of(run)
        value = run.get(self.key) if is_number(run.get(self.key)) else None
        if self.unit in ("%", "points"):
            text = percent(value) if self.unit == "%" else points(value)
            return with_interval(
                text, run.get("over_seeds", {}).get(run["headline"] if self.key == "ours" else self.key)
            )
        return duration(value) if self.unit == "s" else count(value)


def percent(fraction: Any) -> str:
    """0.986 -> "98.60 %"; 0.99998 -> "99.998 %" and 2e-6 -> "0.0002 %": not all is not rounded to all, nor some to none."""
    if is_missing(fraction):
        return NOTHING
    rounded = ((digits, round(100 * fraction, digits)) for digits in range(2, 9))
    digits = next((digits for digits, value in rounded if 0 < value < 100), 2) if 0 < fraction < 1 else 2
    return f"{100 * fraction:.{digits}f} %"


def points(fraction: Any) -> str:
    """0.0012 -> "+0.12", a difference in percentage points."""
    # Adding 0.0 turns the -0.0 of a rounded tiny loss into 0.0.
    return NOTHING if is_missing(fraction) else f"{round(100 * fraction, 2) + 0.0:+.2f}"


def with_interval(text: str, values: Sequence[float] | None) -> str:
    """The text of a mean of fractions with half its 95 % interval: "98.60 ± 0.12 %"; as it is for a single value."""
    if values is None or text == NOTHING:
        return text
    number, _, unit = text.partition(" ")
    return f"{number} ± {100 * half_interval(values):.2f} {unit}".rstrip()


def count(value: Any) -> str:
    """22612.4 -> "22,612"; small numbers keep three digits."""
    if is_missing(value):
        return NOTHING
    return f"{value:,.0f}" if abs(value) >= 999.5 or value == 0 else f"{value:.3g}"


def duration(seconds: Any) -> str:
    """Seconds as "48 s", "3.5 min" or "2.1 h"."""
    if is_missing(seconds):
        return NOTHING
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def in_steps(number: str) -> str:
    """A written number of steps with its unit: "1 step", "12 steps"."""
    return f"{number} {'step' if number == '1' else 'steps'}"


def latency(run: pd.Series) -> str:
    """Steps and simulated time until the accuracy stays within one point of the final one: "12 steps, 12 ms".

    A network of spike times is read once: "14.5 intervals" of the input.
    """
    steps, time_ms, intervals = (run.get(key) for key in ("snn/steps_to_1pct", "snn/time_to_1pct_ms", "ttfs/latency"))
    # No-break spaces: a line may end between the two, not between a number and its unit.
    parts = [] if is_missing(steps) else [in_steps(f"{steps:g}").replace(" ", "\u00a0")]
    parts += [] if is_missing(time_ms) else [f"{time_ms:g}\u00a0ms"]
    parts += [] if is_missing(intervals) else [f"{count(intervals)}\u00a0intervals"]
    return ", ".join(parts) or NOTHING


def departs(run: pd.Series) -> str:
    """In what the row departs from the published run, "as published" if in nothing; nothing without a published number."""
    if run["failure"] or (not run["departs"] and run["published"] is None):
        return NOTHING
    return "; ".join(run["departs"]) or "as published"


def published(metric: str) -> Callable[[pd.Series], str]:
    """The published value of a metric; in parentheses in a row that is not held against it."""

    def cell(run: pd.Series) -> str:
        fraction = run.get(f"cfg.paper.published.{metric or run['headline']}")
        known = run["verdict"] != OWN and fraction is not None and is_number(fraction) and 0 <= fraction <= 1
        value = percent(fraction) if known else NOTHING
        # Nothing is held against a number of a row whose headline has none; it is bare where the row is as published.
        same = run["verdict"] == UNPUBLISHED and not any(run[fact] for fact in ("reduced", *DEPARTURES[1:]))
        return value if value == NOTHING or is_compared(run) or same else f"({value})"

    return cell


def constants(run: pd.Series) -> str:
    """The energies per operation: "4.6 / 0.9" pJ per multiply-accumulate and per accumulate."""
    mac, ac = run.get("energy/mac_pj"), run.get("energy/ac_pj")
    return NOTHING if is_missing(mac) or is_missing(ac) else f"{mac:g} / {ac:g}"


def between(key: str) -> Callable[[pd.Series], str]:
    """The two ends of a metric of the energy model, as "12,292 to 60,627"; nothing in runs from before it."""

    def cell(run: pd.Series) -> str:
        ends = [run.get(key.format(end)) for end in ("low", "high")]
        texts = [count(end) for end in sorted(float(end) for end in ends if is_number(end))]  # type: ignore[arg-type]
        return NOTHING if len(texts) < 2 else texts[0] if len(set(texts)) == 1 else " to ".join(texts)

    return cell


def text_of(key: str) -> Callable[[pd.Series], str]:
    """A function that gives the text in a run's column `key`."""
    return lambda run: NOTHING if is_missing(run[key]) or run[key] == "" else str(run[key])


METRICS = {
    column.key: column
    for column in (
        Column("snn/test_acc", "final accuracy", "%", 1, "SNN", "Final accuracy of the spiking network"),
        Column("ann/test_acc", "accuracy of the ReLU network", "%", 1, "ANN"),
        Column("snn/acc_drop", "accuracy lost", "points", -1, "drop (points)"),
        Column("snn/agreement", "agreement with the ReLU network", "%", 1, "agreement"),
        Column(
            "snn/time_to_1pct_ms", "time to within one point", "ms", -1, "ms to within 1 point",
            "Simulated time until the accuracy stays within one point of its end",
        ),
        Column("snn/steps_to_1pct", "steps to within one point", "", -1),
        Column(
            "snn/spikes_per_image", "spikes per image", "", -1, "spikes / image",
            "Spikes of the whole network per image",
        ),
        Column("snn/synops_per_image", "synaptic operations per image", "", -1, "synaptic operations / image"),
        Column("ttfs/latency", "latency of spike times", "input intervals", -1),
        Column("ttfs/certified", "proved by the bound", "%", 1),
        Column("ttfs/early", "early crossings", "%", -1),
        Column("ttfs/active", "neurons that spike", "%", -1),
        Column("energy/snn_nj", "energy, arithmetic only", "nJ", -1, "SNN, arithmetic only (nJ)"),
        Column("energy/ann_nj", "energy of the ReLU network, arithmetic only", "nJ", -1, "ANN, arithmetic only (nJ)"),
        Column("energy/snn_low_nj", "energy with memory, low end", "nJ", -1),
        Column("energy/snn_high_nj", "energy with memory, high end", "nJ", -1),
        Column("energy/ratio_low", "energy over int8 ReLU network, low end", "", -1),
        Column("energy/ratio_high", "energy over int8 ReLU network, high end", "", -1),
        Column("energy/break_even_low", "break-even activity, low end", "%", 1),
        Column("energy/break_even_high", "break-even activity, high end", "%", 1),
        Column("time/total_s", "time, with what an earlier run trained or converted", "s", -1, "time with training"),
        Column("time/simulate_s", "time to simulate", "s", -1),
    )
}  # fmt: skip


def metric(key: str) -> Column:
    """The column of a metric by its name."""
    return METRICS.get(key) or Column(key, key)


ROW = Column("row", "row", of=lambda run: str(run.name), is_number=False)
PUBLISHED = Column("published", "published", of=published(""))
OURS = Column("ours", "ours", "%", short="ours")
JUDGED_ON = Column("headline", "metric", of=lambda run: metric(str(run["headline"])).short, is_number=False)
SEEDS = Column("seeds", "seeds")
DIFFERENCE = Column("difference", "difference", "points", short="difference (points)")
VERDICT = Column(
    "verdict", "verdict", is_number=False,
    of=lambda run: f"{run['verdict']}: {run['failure']}" if run["failure"] else run["verdict"],
)  # fmt: skip
LATENCY = Column("latency", "steps / time to 1\u00a0%, or latency", of=latency, is_number=False)

WITH_MEMORY = (
    Column("energy_snn", "SNN, with memory (nJ)", of=between("energy/snn_{}_nj")),
    Column("energy_int8", "int8 ANN, with memory (nJ)", of=between("energy/int8_{}_nj")),
    Column("energy_ratio", "SNN / int8 ANN", of=between("energy/ratio_{}")),
)

RESULTS = (
    ROW,
    Column("method", "network / method", of=text_of("method"), is_number=False),
    PUBLISHED,
    OURS,
    JUDGED_ON,
    SEEDS,
    DIFFERENCE,
    VERDICT,
    Column("data", "data set", of=text_of("data"), is_number=False),
    Column("departs", "differs in", of=departs, is_number=False),
    LATENCY,
    metric("time/total_s"),
)
TERMINAL = (
    ROW,
    PUBLISHED,
    OURS,
    SEEDS,
    DIFFERENCE,
    Column("verdict", "verdict", of=text_of("verdict"), is_number=False),
    LATENCY,
    metric("time/total_s"),
)
DETAILS = (
    ROW,
    Column("ann_published", "ANN published", of=published("ann/test_acc")),
    metric("ann/test_acc"),
    Column("snn_published", "SNN published", of=published("snn/test_acc")),
    metric("snn/test_acc"),
    *map(metric, ("snn/acc_drop", "snn/agreement", "snn/time_to_1pct_ms", "ttfs/latency", "snn/spikes_per_image")),
    metric("snn/synops_per_image"),
    *WITH_MEMORY,
    *map(metric, ("energy/ann_nj", "energy/snn_nj")),
    Column("constants", "pJ per MAC / AC", of=constants),
)
# A group of runs that share a network.
SIDE_BY_SIDE = (
    ROW,
    *map(metric, ("snn/test_acc", "ann/test_acc", "snn/agreement")),
    LATENCY,
    *map(metric, ("snn/spikes_per_image", "snn/synops_per_image")),
    WITH_MEMORY[-1],
    *map(metric, ("energy/snn_nj", "energy/ann_nj")),
)
COMPARED = (
    "snn/test_acc", "snn/acc_drop", "snn/time_to_1pct_ms", "ttfs/latency", "ttfs/certified", "snn/spikes_per_image",
    "snn/synops_per_image", "energy/snn_low_nj", "energy/ratio_low", "energy/ratio_high", "energy/snn_nj",
)  # fmt: skip


def without_single_seeds(columns: Sequence[Column], judged: pd.DataFrame) -> list[Column]:
    """The columns, without that of seeds where every row has one."""
    return [column for column in columns if column is not SEEDS or (judged["seeds"] > 1).any()]
