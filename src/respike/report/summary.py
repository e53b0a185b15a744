"""The sentences of the report: how the runs came out, when and where they ran, how they were made."""

import re
from collections.abc import Iterable
from typing import Any

import pandas as pd

from respike.report.columns import constants, duration
from respike.report.runs import below, is_missing, is_number
from respike.report.seeds import BETWEEN
from respike.report.verdicts import (
    CHANGED,
    COMPARED,
    OTHER_DATA,
    OTHER_RECIPE,
    OWN,
    REDUCED,
    SKIPPED,
    UNPUBLISHED,
    calibrated_on,
)

VERDICT_RULE = (
    "A row is compared with the published number of its headline metric only if its settings are those of the experiment "
    "and its images those of the paper. It is reproduced when the two numbers differ by no more than the tolerance (that "
    "of the paper block, else the root of the sum of two squares: two standard errors of the published accuracy on its "
    "test images; and two of ours on the images, or half the 95 % interval of our mean over seeds if that is larger), "
    "surpassed or below when they differ by more. Where the network was not trained as the published one, the verdict "
    "says: with another recipe. Other rows are not compared; their verdict gives the reason, and the published number "
    "stands in parentheses. ± is half the 95 % interval of a mean over seeds (Student's t). The time with training counts "
    "the training of the same network by another row, but not that of an experiment whose weights the row starts from, nor "
    "one that was done elsewhere."
)
ENERGY_RULE = (
    "Arithmetic only leaves out memory and compares 32-bit floats: the ReLU network pays for its multiply-accumulates, the "
    "spiking network for one accumulate per synapse that a spike reaches; an analog first layer pays for multiply-accumulates."
)
MEMORY_RULE = (
    "With memory: the energy model of conf/energy, from weights that are read once per image to weights that are read at "
    "each use, on both sides; no measurement, without leakage, routing and clock. Weights are priced at "
    "energy.weight_bits (8 by default); the accuracies beside them are of the weights as simulated: on a grid of "
    "simulate.weight_bits (16 by default, 13 for the rendered digits), in floating point where that is null, for spike "
    "times and for direct training."
)
EARLIER = "Rows without it are from before operations were counted by layer: run them again to have it."
HOROWITZ_45NM = "4.6 / 0.9"


def verdicts(judged: pd.DataFrame) -> str:
    """How many rows have each verdict, and how many have none."""
    counts = judged["verdict"].value_counts()
    said = []
    for words, kinds in {
        "compared with a published number": {kind: kind for kind in COMPARED},
        "trained with a recipe other than the published network's": {
            verdict: verdict.partition(",")[0] for verdict in OTHER_RECIPE.values()
        },
    }.items():
        found = {kind: counts[verdict] for verdict, kind in kinds.items() if verdict in counts}
        if found:
            parts = ", ".join(f"{number} {kind}" for kind, number in found.items())
            said.append(f"{_rows(sum(found.values()))} {words}: {parts}.")
    others = {
        REDUCED: "reduced and not comparable",
        OTHER_DATA: "on other data than the paper's and not comparable",
        CHANGED: "with changed settings and not comparable",
        OWN: "with a number that is not a published one",
        UNPUBLISHED: "without a published number",
        SKIPPED: "skipped",
    }
    said += [f"{_rows(counts[kind])} {words}." for kind, words in others.items() if kind in counts]
    return " ".join(said) or "No rows."


def circumstances(judged: pd.DataFrame) -> str:
    """The days, processors and commits of the runs, in one sentence."""
    runs = judged[judged["failure"] == ""]
    days = sorted(day[:10] for day in _parts(_values(runs, "provenance.started")))
    when = "" if not days else f" {days[0]}" if days[0] == days[-1] else f" {days[0]} to {days[-1]}"
    devices = _values(runs, "provenance.device")
    processors = _values(runs, "provenance.processor")
    machines = _distinct(_parts(processors.combine_first(devices)), "; ")
    commits = _distinct(map(_short_commit, _parts(_values(runs, "provenance.git_commit"))))
    where = f" on {machines}" if machines else ""
    origin = f" from commit{'s' if ', ' in commits else ''} {commits}" if commits else ""
    return f"Run{when}{where}{origin}." if len(runs) else "Nothing was run."


def energy(judged: pd.DataFrame) -> str:
    """How energy is counted, and with which constants; "" when no run measured any."""
    used = [constants(run) for _, run in judged.iterrows() if is_number(run.get("energy/mac_pj"))]
    if not used:
        return ""
    sources = {HOROWITZ_45NM: " (32-bit at 45 nm, Horowitz 2014)"}
    pairs = "; ".join(f"{pair} pJ{sources.get(pair, '')}" for pair in dict.fromkeys(used))
    known = judged.get("energy/snn_low_nj", pd.Series(index=judged.index, dtype=object)).map(is_number)[
        judged["failure"] == ""
    ]
    said = [MEMORY_RULE] if known.any() else []
    said += [] if known.all() else [EARLIER]
    return " ".join([*said, f"{ENERGY_RULE} Constants per multiply-accumulate / accumulate: {pairs}."])


def provenance(run: pd.Series) -> list[tuple[str, str]]:
    """Where the numbers of a run come from, as (fact, value) pairs; unknown ones are left out."""
    seed = run.get("provenance.seed")
    devices = [run.get(f"provenance.{key}") for key in ("device", "processor")]
    times = below(run, "provenance.time.")
    packages = below(run, "provenance.packages.")
    one = f" (seed {run['members'][0][0]})" if run["seeds"] > 1 else ""
    facts = [
        ("published in", run["source"]),
        ("judged on", run["headline"]),
        ("started", _first_and_last(run.get("provenance.started"))),
        ("git commit", run.get("provenance.git_commit")),
        ("recipe", run.get("cfg.recipe.name")),
        ("seeds" if run["seeds"] > 1 else "seed", run.get("cfg.seed") if is_missing(seed) else seed),
        ("conversion", run.get("cfg.convert._target_")),
        ("calibration", _calibration(run)),
        ("input coding", _settings(run, "encode")),
        ("neuron", _settings(run, "neuron")),
        ("simulation", _settings(run, "simulate")),
        ("data", _texts(below(run, "provenance.data."))),
        ("device", ", ".join(str(device) for device in devices if device and not is_missing(device))),
        (f"wall time{one}", ", ".join(f"{stage} {duration(float(s))}" for stage, s in times.items())),
        ("python", run.get("provenance.python")),
        ("packages", ", ".join(f"{name} {version}" for name, version in packages.items())),
    ]
    return [(fact, str(value)) for fact, value in facts if not is_missing(value) and value != ""]


def _first_and_last(joined: Any) -> str:
    """ "2026-11-27T10:00:00+00:00 to ..." of the times of several seeds."""
    times = sorted(_parts([] if is_missing(joined) else [joined]))
    return " to ".join(dict.fromkeys([*times[:1], *times[-1:]]))


def _calibration(run: pd.Series) -> str:
    """Which images the conversion measured, and how many of them if not all."""
    if isinstance(run.get("calibrated_on"), str):  # early runs do not tell it
        return run["calibrated_on"]
    first, split = run.get("cfg.callbacks.convert.calibration_size"), calibrated_on(run)
    return split and f"{'all' if is_missing(first) else f'the first {first:,}'} {split} images".replace(
        "train ", "training "
    )


def _settings(run: pd.Series, block: str) -> str:
    """A config block in one line: "Rate max_rate=1000"; the name of the callable without its modules."""
    settings = below(run, f"cfg.{block}.")
    target = str(settings.pop("_target_", "")).rpartition(".")[2]
    # Blocks inside this one (simulate.encode, simulate.neuron) have lines of their own.
    shown = {key: value for key, value in settings.items() if "." not in key and not key.startswith("_")}
    return f"{target} {_texts(shown)}".strip()


def _texts(values: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in values.items())


def _values(runs: pd.DataFrame, column: str) -> pd.Series:
    values = runs.get(column, pd.Series(dtype=object))
    return values[values.map(lambda value: not is_missing(value) and value != "").astype(bool)]


def _parts(values: Iterable[Any]) -> list[str]:
    """The parts of texts that rows of several seeds join."""
    return [part for value in values for part in str(value).split(BETWEEN)]


def _distinct(values: Iterable[Any], between: str = ", ") -> str:
    return between.join(dict.fromkeys(map(str, values)))


def listed(words: Iterable[object]) -> str:
    """ "1, 2 and 3"."""
    *most, last = map(str, words)
    return f"{', '.join(most)} and {last}" if most else last


def _rows(number: int) -> str:
    return f"{number} row" if number == 1 else f"{number} rows"


def _short_commit(commit: Any) -> str:
    # A suffix such as -dirty stays.
    return re.sub(r"\b([0-9a-f]{10})[0-9a-f]{30}", r"\1", str(commit or ""))
