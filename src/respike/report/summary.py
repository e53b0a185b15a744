"""What the page says in words: how the runs came out, when and where they ran, where their numbers come from."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from respike.report.collect import Run
from respike.report.columns import constants, duration
from respike.report.table import BELOW, CHANGED, REDUCED, REPRODUCED, SKIPPED, SURPASSED, UNPUBLISHED, Row

VERDICT_RULE = (
    "A full run is held against the published number of its headline metric: reproduced when the two differ by no more "
    "than the row's tolerance (the paper block's, else two standard errors of the published accuracy on that many test "
    "images), surpassed or below when they differ by more. A reduced run is never judged: the published number stands "
    "in parentheses."
)
ENERGY_RULE = (
    "Energy counts arithmetic only, not memory: the ReLU network pays for its multiply-accumulates, the spiking "
    "network one accumulate per synapse a spike reaches; an analog first layer pays multiply-accumulates."
)
HOROWITZ_45NM = "4.6 / 0.9"


def verdicts(rows: Sequence[Row]) -> str:
    """The headline: how the full runs came out, and how many rows were not judged."""
    judged = [row for row in rows if row.verdict in (SURPASSED, REPRODUCED, BELOW)]
    said = []
    if judged:
        parts = [(sum(row.verdict == kind for row in judged), kind) for kind in (REPRODUCED, SURPASSED, BELOW)]
        counted = ", ".join(f"{n} {kind}" for n, kind in parts if n)
        said.append(f"{_rows(len(judged))} held against a published number: {counted}.")
    others = [
        (REDUCED, "reduced and not comparable"),
        (CHANGED, "of changed settings and not comparable"),
        (UNPUBLISHED, "without a published number"),
        (SKIPPED, "skipped"),
    ]
    for kind, words in others:
        number = sum(row.verdict == kind for row in rows)
        said += [f"{_rows(number)} {words}."] if number else []
    return " ".join(said) or "No rows."


def circumstances(rows: Sequence[Row]) -> str:
    """When, on which processor and from which commit the runs came: one sentence."""
    runs = [row.run for row in rows if row.run]
    days = sorted(str(run.provenance["started"])[:10] for run in runs if run.provenance.get("started"))
    when = "" if not days else f" {days[0]}" if days[0] == days[-1] else f" {days[0]} to {days[-1]}"
    processors = _distinct(run.provenance.get("processor") or run.provenance.get("device") for run in runs)
    commits = _distinct(_short_commit(run.provenance.get("git_commit")) for run in runs)
    where = f" on {processors}" if processors else ""
    origin = f" from commit {commits}" if commits else ""
    return f"Run{when}{where}{origin}." if runs else "Nothing was run."


def energy(rows: Sequence[Row]) -> str:
    """How energy is counted and with which constants; "" when no run measured any."""
    used = list(dict.fromkeys(constants(row) for row in rows if row.number("energy/mac_pj") is not None))
    if not used:
        return ""
    said = "; ".join(
        f"{pair} pJ" + (" (32-bit at 45 nm, Horowitz 2014)" if pair == HOROWITZ_45NM else "") for pair in used
    )
    return f"{ENERGY_RULE} Constants per multiply-accumulate / accumulate: {said}."


def provenance(row: Row) -> list[tuple[str, str]]:
    """Facts about where a run's numbers come from, as (what, value) pairs; unknown ones are left out."""
    run = row.run
    if run is None:
        return []
    kept = run.provenance
    facts = [
        ("published in", row.source),
        ("judged on", row.headline),
        ("started", kept.get("started")),
        ("git commit", kept.get("git_commit")),
        ("recipe", _block(run, "recipe").get("name")),
        ("seed", kept.get("seed", run.config.get("seed"))),
        ("conversion", _block(run, "convert").get("_target_")),
        ("input coding", _settings(run.config.get("encode"))),
        ("simulation", _settings(run.config.get("simulate"))),
        ("data", _settings(kept.get("data"))),
        ("device", ", ".join(_texts([kept.get("device"), kept.get("processor")]))),
        ("wall time", ", ".join(f"{stage} {duration(float(s))}" for stage, s in (kept.get("time") or {}).items())),
        ("python", kept.get("python")),
        ("packages", ", ".join(f"{name} {version}" for name, version in (kept.get("packages") or {}).items())),
    ]
    return [(what, str(value)) for what, value in facts if value not in (None, "")]


def _block(run: Run, key: str) -> Mapping[str, Any]:
    value = run.config.get(key)
    return value if isinstance(value, Mapping) else {}


def _settings(values: Any) -> str:
    """A config block in one line: "rate max_rate=1000"; the callable's name without its modules."""
    if not isinstance(values, Mapping):
        return "" if values is None else str(values)
    target = [str(values["_target_"]).rpartition(".")[2]] if values.get("_target_") else []
    return " ".join(target + [f"{key}={value}" for key, value in values.items() if not key.startswith("_")])


def _rows(number: int) -> str:
    return f"{number} row" if number == 1 else f"{number} rows"


def _texts(values: Sequence[Any]) -> list[str]:
    return [str(value) for value in values if value]


def _distinct(values: Any) -> str:
    return ", ".join(dict.fromkeys(_texts(list(values))))


def _short_commit(commit: Any) -> str:
    # A suffix such as -dirty stays.
    return re.sub(r"\b([0-9a-f]{10})[0-9a-f]{30}", r"\1", str(commit or ""))
