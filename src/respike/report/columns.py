"""What each column of the tables says about a row: a heading and a cell, as text for people (% and points)."""

from collections.abc import Callable
from dataclasses import dataclass

from respike.report.table import Row, published_number

NOTHING = "–"


@dataclass(frozen=True)
class Column:
    """A key for templates, the heading, a row's cell, and whether cells are numbers (flush right, never wrapped)."""

    key: str
    heading: str
    cell: Callable[[Row], str]
    number: bool = True


def percent(fraction: float | None) -> str:
    """0.986 -> "98.60 %"."""
    return NOTHING if fraction is None else f"{100 * fraction:.2f} %"


def points(fraction: float | None) -> str:
    """0.0012 -> "+0.12", a difference in percentage points."""
    # Adding 0.0 turns the -0.0 of a rounded tiny loss into 0.0.
    return NOTHING if fraction is None else f"{round(100 * fraction, 2) + 0.0:+.2f}"


def count(value: float | None) -> str:
    """22612.4 -> "22,612"; small numbers keep three digits."""
    if value is None:
        return NOTHING
    return f"{value:,.0f}" if abs(value) >= 1000 or value == 0 else f"{value:.3g}"


def duration(seconds: float | None) -> str:
    """Seconds as "48 s", "3.5 min" or "2.1 h"."""
    if seconds is None:
        return NOTHING
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def settling(row: Row) -> str:
    """Steps and simulated time until the accuracy stays within one point of the final one: "12 steps, 12 ms".

    Spike times are read once, and counted in intervals of the input: "14.46 intervals".
    """
    steps, time_ms = row.number("snn/steps_to_1pct"), row.number("snn/time_to_1pct_ms")
    # No-break spaces: a line may end between the two, not between a number and its unit.
    said = [] if steps is None else [f"{steps:g}\u00a0{'step' if steps == 1 else 'steps'}"]
    said += [] if time_ms is None else [f"{time_ms:g}\u00a0ms"]
    latency = row.number("ttfs/latency")
    said += [] if latency is None else [f"{latency:.2f}\u00a0intervals"]
    return ", ".join(said) or NOTHING


def size(row: Row) -> str:
    """Either "full" or "reduced" with the reasons; nothing for a skipped row."""
    if row.run is None:
        return NOTHING
    return f"reduced: {row.reduced}" if row.reduced else "full"


def metric_published(row: Row, metric: str) -> str:
    """The published value of a metric; in parentheses beside a reduced run, which it cannot judge."""
    published = published_number(row.run, metric) if row.run else None
    return f"({percent(published)})" if published is not None and row.reduced else percent(published)


def budget(row: Row) -> str:
    """The time budget: "20 min"."""
    return NOTHING if row.budget_min is None else f"{row.budget_min:g} min"


def outcome(row: Row) -> str:
    """The verdict; a skipped row gives its reason with it."""
    return f"{row.verdict}: {row.skipped}" if row.skipped else row.verdict


def constants(row: Row) -> str:
    """The energies the run charged per operation: "4.6 / 0.9" pJ per multiply-accumulate and per accumulate."""
    mac, ac = row.number("energy/mac_pj"), row.number("energy/ac_pj")
    return NOTHING if mac is None or ac is None else f"{mac:g} / {ac:g}"


def _plain(metric: str) -> Callable[[Row], str]:
    return lambda row: count(row.number(metric))


MAIN = (
    Column("row", "row", lambda row: row.name, number=False),
    Column("method", "network / method", lambda row: row.method or NOTHING, number=False),
    Column("published", "published", lambda row: metric_published(row, row.headline)),
    Column("ours", "ours", lambda row: percent(row.ours)),
    Column("difference", "difference (points)", lambda row: points(row.difference)),
    Column("verdict", "verdict", outcome, number=False),
    Column("data", "data set", lambda row: row.data or NOTHING, number=False),
    Column("size", "reduced or full", size, number=False),
    Column("settling", "steps / time to 1\u00a0%", settling, number=False),
    Column("wall_time", "wall time", lambda row: duration(row.number("time/total_s"))),
    Column("budget", "budget", budget),
)

DETAILS = (
    Column("row", "row", lambda row: row.name, number=False),
    Column("ann_published", "ANN published", lambda row: metric_published(row, "ann/test_acc")),
    Column("ann", "ANN", lambda row: percent(row.number("ann/test_acc"))),
    Column("snn_published", "SNN published", lambda row: metric_published(row, "snn/test_acc")),
    Column("snn", "SNN", lambda row: percent(row.number("snn/test_acc"))),
    Column("drop", "drop (points)", lambda row: points(row.number("snn/acc_drop"))),
    Column("agreement", "agreement", lambda row: percent(row.number("snn/agreement"))),
    Column("ms", "ms to within 1 point", _plain("snn/time_to_1pct_ms")),
    Column("latency", "latency of spike times (input intervals)", _plain("ttfs/latency")),
    Column("spikes", "spikes / image", _plain("snn/spikes_per_image")),
    Column("synops", "synaptic operations / image", _plain("snn/synops_per_image")),
    Column("ann_energy", "ANN energy (nJ)", _plain("energy/ann_nj")),
    Column("snn_energy", "SNN energy (nJ)", _plain("energy/snn_nj")),
    Column("constants", "pJ per MAC / AC", constants),
)

# of a group whose runs share a network
COMPARED = (
    Column("row", "row", lambda row: row.name, number=False),
    Column("snn", "accuracy", lambda row: percent(row.number("snn/test_acc"))),
    Column("ann", "ReLU network", lambda row: percent(row.number("ann/test_acc"))),
    Column("agreement", "agreement", lambda row: percent(row.number("snn/agreement"))),
    Column("settling", "latency", settling, number=False),
    Column("spikes", "spikes / image", _plain("snn/spikes_per_image")),
    Column("synops", "synaptic operations / image", _plain("snn/synops_per_image")),
    Column("snn_energy", "energy (nJ)", _plain("energy/snn_nj")),
    Column("ann_energy", "ReLU network (nJ)", _plain("energy/ann_nj")),
)
