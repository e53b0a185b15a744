"""Is spiking worth it: for each network a page with its ReLU network and every method that was run on it, side by side."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from hydra.utils import instantiate
from omegaconf import OmegaConf

from respike.errors import InputError
from respike.metrics.energy import (
    CAUSES,
    ENDS,
    Baseline,
    Cost,
    EnergyModel,
    activity,
    baselines,
    break_even,
    one_layer,
    relu_energy,
    spiking_energy,
)
from respike.metrics.operations import INPUT, Operations
from respike.report.columns import NOTHING, count, latency, percent
from respike.report.groups import groups_by_network, slug
from respike.report.page import check_folder, relative_address, render, replaced
from respike.report.runs import is_number
from respike.report.tables import markdown_table
from respike.report.verdicts import judge
from respike.runs.conf import CONF
from respike.system.files import read_csv

FP32 = 32  # bits
INT8 = Baseline("int8", 8)
DAMPFHOFFER = (0.15, 1.38)  # spikes per synapse and image, IEEE TETCI 7(3) 731
CAUSE_WORDS = {
    "products": "multiply-accumulates",
    "accumulates": "accumulates",
    "membrane": "updates and comparisons of potentials",
    "weights": "reads of weights",
    "potentials": "reads and writes of potentials",
    "signals": "spikes or activations",
}
LIMITS = (
    "Under these constants only (conf/energy/cmos_45nm.yaml): the model has no leakage, clock, control, routing, transfer of "
    "the image or idle power, no chip maps the layers exactly so, and latency has no price. Low: each weight is read once per "
    "image; high: at each use. Both ends are the same for both kinds of network."
)


def default_model() -> EnergyModel:
    """The model of conf/energy/cmos_45nm.yaml, with which all runs of a page are priced."""
    return instantiate(OmegaConf.load(CONF / "energy" / "cmos_45nm.yaml"))


@dataclass(frozen=True)
class Candidate:
    """A way to run the network.

    name; spiking: a run of a spiking network, or a ReLU network; accuracy: a fraction, NaN if it was not measured; time: passes
    or steps or intervals, to compare; latency: the same in words; operations: in words; energy: nJ per image at both ends.
    """

    name: str
    spiking: bool
    accuracy: float
    time: float
    latency: str
    operations: str
    energy: tuple[float, float]

    def beats(self, other: "Candidate") -> bool:
        """Whether it is nowhere worse and somewhere better: accuracy, latency, and energy at both ends."""
        if math.isnan(self.accuracy) or math.isnan(other.accuracy):
            return False
        ours, theirs = ((-c.accuracy, c.time, *c.energy) for c in (self, other))
        return all(a <= b for a, b in zip(ours, theirs, strict=True)) and ours != theirs


@dataclass(frozen=True)
class Decision:
    """What is known of one network.

    title; data; measured: the spiking runs whose operations were counted, by name; candidates: ReLU networks first; unmeasured:
    the runs from before operations were counted; best: of the spiking candidates, the one that costs least at the high end.
    """

    title: str
    data: str
    measured: dict[str, tuple[pd.Series, Operations]]
    candidates: tuple[Candidate, ...]
    unmeasured: tuple[str, ...]

    @property
    def best(self) -> str:
        """The name of the spiking run that costs least: the geometric mean of its two ends."""
        spiking = [c for c in self.candidates if c.spiking]
        return min(spiking, key=lambda c: c.energy[0] * c.energy[1]).name

    def candidate(self, name: str) -> Candidate:
        """The candidate of this name."""
        return next(c for c in self.candidates if c.name == name)

    def dominated(self, candidate: Candidate) -> list[str]:
        """The names of the candidates that beat it."""
        return [other.name for other in self.candidates if other.beats(candidate)]


def decisions(runs: pd.DataFrame, model: EnergyModel) -> list[Decision]:
    """One per network and data set of a frame from `load_runs`. Raises InputError if no run counted its operations."""
    judged = judge(runs)
    found = [_decision(group.title, group.runs, model) for group in groups_by_network(judged)]
    if not any(one.measured for one in found):
        raise InputError(
            "no run has operations.csv, the counts of each layer, which runs have since the energy model exists: run them again"
        )
    return found


def _decision(title: str, runs: pd.DataFrame, model: EnergyModel) -> Decision:
    measured: dict[str, tuple[pd.Series, Operations]] = {}
    for name, run in runs.iterrows():
        file = run["path"] / "operations.csv"
        if file.is_file():
            rows = [row.to_dict() for _, row in read_csv(file).iterrows()]
            measured[str(name)] = run, Operations.from_rows(rows)
    candidates: dict[str, Candidate] = {}
    for run, operations in measured.values():
        for baseline in baselines(operations, model):
            made = _relu_candidate(run, operations, baseline, model)
            candidates.setdefault(made.name, made)
    order = sorted(candidates.values(), key=lambda c: -c.energy[1])
    spiking = [_spiking_candidate(name, run, operations, model) for name, (run, operations) in measured.items()]
    unmeasured = tuple(str(name) for name in runs.index if str(name) not in measured)
    return Decision(title, str(runs["data"].iloc[0]), measured, (*order, *spiking), unmeasured)


def _relu_candidate(run: pd.Series, operations: Operations, baseline: Baseline, model: EnergyModel) -> Candidate:
    what = {FP32: "fp32", 8: "int8"}.get(baseline.bits, f"{baseline.bits} bits")
    key = "ann/test_acc" if baseline.bits == FP32 else "ann/int8_acc" if baseline.bits == 8 else "ann/bits_acc"
    macs = sum(layer.effective_macs or 0.0 for layer in operations.layers) if baseline.skip else operations.macs
    return Candidate(
        f"ReLU network, {what}{', zeros skipped' if baseline.skip else ''}",
        False,
        float(run[key]) if is_number(run.get(key)) else math.nan,
        1,
        "1 pass",
        f"{count(float(macs))} MACs",
        _ends(relu_energy(model, operations, baseline, end) for end in ENDS),
    )


def _spiking_candidate(name: str, run: pd.Series, operations: Operations, model: EnergyModel) -> Candidate:
    steps: int | None = operations.steps
    intervals: Any = run["ttfs/latency"] if is_number(run.get("ttfs/latency")) else math.nan
    products = sum(layer.input_macs + layer.current_macs * (steps or 1) for layer in operations.layers)
    said = f"{count(operations.accumulates)} accumulates"
    return Candidate(
        name,
        True,
        float(run["snn/test_acc"]) if is_number(run.get("snn/test_acc")) else math.nan,
        float(steps or intervals),
        f"{steps} steps" if steps else latency(run),
        f"{said}, {count(float(products))} MACs" if products else said,
        _ends(spiking_energy(model, operations, end) for end in ENDS),
    )


def _ends(costs: Any) -> tuple[float, float]:
    low, high = (sum(cost.values()) / 1000 for cost in costs)
    return low, high


def span(ends: Sequence[float], unit: str = "") -> str:
    """Two ends in words: "12,292 to 60,627 nJ", once if they are the same."""
    texts = list(dict.fromkeys(count(end) for end in sorted(ends)))
    return " to ".join(texts) + (f"\u00a0{unit}" if unit else "")


def verdict(decision: Decision, model: EnergyModel) -> str:
    """One sentence: whether the cheapest spiking run costs less than the int8 ReLU network, dense and with zeros skipped."""
    name = decision.best
    best = decision.candidate(name)
    _, operations = decision.measured[name]
    dense = [relu_energy(model, operations, INT8, end) for end in ENDS]
    limits = _ends(dense)
    ratios = [ours / theirs for ours, theirs in zip(best.energy, limits, strict=True)]
    skipping = next((c for c in decision.candidates if c.name == "ReLU network, int8, zeros skipped"), None)
    accuracy = f"{percent(best.accuracy)} at {best.latency}"
    said = f"{name} ({accuracy}) costs {_times(ratios)} the energy of the int8 ReLU network"
    skipped = [ours / theirs for ours, theirs in zip(best.energy, skipping.energy, strict=True)] if skipping else []
    beside = f", and {_times(skipped)} that of one that skips zeros" if skipped else ""
    if not skipped and min(ratios) < 1:
        return f"Spiking pays against a dense ReLU network; what one would cost that skips zeros is not known: {said}."
    if max(skipped or ratios) < 1:
        return f"Spiking pays: {said}{beside}."
    if min(skipped or ratios) < 1:
        return f"Spiking pays under one assumption about memory and not under the other: {said}{beside}."
    if max(ratios) < 1:
        return f"Spiking pays only against a ReLU network that computes with zeros: {said}{beside}."
    return f"Spiking does not pay: even the cheapest run, {said}{beside}."


def _times(ratios: Sequence[float]) -> str:
    low, high = sorted(ratios)
    same = count(low) == count(high)
    return f"{count(low)} times" if same else f"{count(low)} to {count(high)} times"


def advice(decision: Decision, model: EnergyModel) -> list[str]:
    """Sentences for an engineer: what costs most, how far the break-even is, and what would have to change."""
    name = decision.best
    run, operations = decision.measured[name]
    costs = [spiking_energy(model, operations, end) for end in ENDS]
    parts = [_largest(cost) for cost in costs]
    said = [
        f"Of {name}, {parts[0]} at the low end, and {parts[1]} at the high end."
        if parts[0] != parts[1]
        else f"Of {name}, {parts[0]} at both ends."
    ]
    now = activity(operations)
    per = "synapse and step" if operations.steps else "synapse"
    limits = [break_even(model, operations, INT8, end) for end in ENDS]
    if now == 0:
        said.append("It had no spikes.")
    elif max(limits) == 0:
        said.append(
            "No activity breaks even with int8: what does not depend on spikes (potentials, constant currents, weights) "
            f"costs more than the whole int8 network. Its activity is {percent(now)} spikes per {per}. Fewer steps could help."
        )
    else:
        words = " and ".join(
            f"{percent(limit)} ({'now ' + _factor(now, limit)})" if limit else "at none"
            for limit in dict.fromkeys(limits)
        )
        ends = "" if len(set(limits)) == 1 else " (low and high end)"
        said.append(
            f"It would break even with int8 at an activity of {words}{ends}; it has {percent(now)} spikes per {per}."
        )
    low, high = DAMPFHOFFER
    used = operations.spikes_per_synapse
    place = "below" if used < low else "above" if used > high else "within"
    said.append(
        f"{used:.2f} spikes per synapse and image: {place} the bounds of {low} to {high} under which spiking networks "
        "compete with efficient accelerators of ReLU networks (Dampfhoffer et al. 2023)."
    )
    accuracies = [c for c in decision.candidates if c.name == "ReLU network, int8" and not math.isnan(c.accuracy)]
    if accuracies:
        lost = 100 * (accuracies[0].accuracy - decision.candidate(name).accuracy)
        direction = "less" if lost >= 0 else "more"
        said.append(
            f"It classifies {abs(lost):.2f} points {direction} of the test images correctly than the int8 network."
        )
    bits = run.get("cfg.simulate.weight_bits")
    if operations.steps and is_number(run.get("snn/time_to_1pct_ms")) and bits != model.weight_bits:
        said.append(
            f"Its weights are priced at {model.weight_bits} bits and were simulated "
            f"{'in floating point' if not is_number(bits) else f'with {bits}'}: type simulate.weight_bits={model.weight_bits} "
            "for its accuracy with these."
        )
    if _is_unrectified(operations):
        said.append("There is no ReLU network of these weights: its accuracy, and its zeros, are not known.")
    return said


def _is_unrectified(operations: Operations) -> bool:
    return any(layer.effective_macs is None for layer in operations.layers if layer.macs)


def _factor(now: float, limit: float) -> str:
    return f"{count(now / limit)} times that" if now > limit else f"{count(limit / now)} times less"


def _largest(cost: Cost) -> str:
    total = sum(cost.values())
    cause = max(CAUSES, key=lambda name: cost[name])
    return f"{100 * cost[cause] / max(total, 1e-12):.0f} % are {CAUSE_WORDS[cause]}"


CANDIDATE_HEADS = (
    "way",
    "accuracy",
    "latency",
    "operations per image",
    "energy (nJ per image)",
    "over int8",
    "dominated by",
)


def candidate_rows(decision: Decision, model: EnergyModel) -> list[list[str]]:
    """The cells of the table of candidates, under CANDIDATE_HEADS."""
    _, operations = next(iter(decision.measured.values()))
    limits = _ends(relu_energy(model, operations, INT8, end) for end in ENDS)
    rows = []
    for one in decision.candidates:
        ratios = [ours / theirs for ours, theirs in zip(one.energy, limits, strict=True)]
        beaten = decision.dominated(one)
        rows.append(
            [
                one.name, NOTHING if math.isnan(one.accuracy) else percent(one.accuracy), one.latency, one.operations,
                span(one.energy), span(ratios), "; ".join(beaten[:2]) + ("; ..." if beaten[2:] else "") or NOTHING,
            ]
        )  # fmt: skip
    return rows


LAYER_HEADS = ("layer", "spikes per synapse", "breaks even at", "spiking (nJ)", "int8 ReLU (nJ)", "times", "potentials")


def layer_rows(operations: Operations, model: EnergyModel) -> list[list[str]]:
    """The cells of the table of layers, under LAYER_HEADS."""
    rows = []
    for layer in operations.layers:
        alone = one_layer(operations, layer)
        ours = _ends(model.spiking(operations, layer, end) for end in ENDS)
        theirs = _ends(model.relu(layer, INT8.bits, end) for end in ENDS)
        limits = [break_even(model, alone, INT8, end) for end in ENDS] if layer.macs else [math.nan]
        ways = dict.fromkeys(model.updates(operations, layer, end) for end in ENDS) if layer.name != INPUT else {}
        rows.append(
            [
                layer.name,
                f"{alone.spikes_per_synapse:.2f}" if layer.accumulates and layer.macs else NOTHING,
                NOTHING
                if any(map(math.isnan, limits))
                else span([limit * (operations.steps or 1) for limit in limits]),
                span(ours),
                span(theirs),
                span([a / b for a, b in zip(ours, theirs, strict=True)]) if min(theirs) > 0 else NOTHING,
                ", ".join(ways) or NOTHING,
            ]
        )
    return rows


CAUSE_HEADS = ("cause", "spiking, low end", "spiking, high end", "int8 ReLU, low end", "int8 ReLU, high end")


def cause_rows(operations: Operations, model: EnergyModel) -> list[list[str]]:
    """The cells of the table of causes (nJ), under CAUSE_HEADS."""
    costs = [spiking_energy(model, operations, end) for end in ENDS]
    costs += [relu_energy(model, operations, INT8, end) for end in ENDS]
    return [[CAUSE_WORDS[cause], *(count(cost[cause] / 1000) for cost in costs)] for cause in CAUSES]


def write_decisions(runs: pd.DataFrame, out: Path | str, title: str) -> list[str]:
    """Write out/index.html, and for several networks one page each; returns a line per network.

    runs: a frame from `load_runs`. Raises InputError when `out` is a file, or no run counted its operations.
    """
    out, model = Path(out), default_model()
    check_folder(out, "page")
    found = [one for one in decisions(runs, model) if one.measured]
    names: list[str] = []
    for one in found:
        names.append(slug(one.title, names))
    pages = ["index.html"] if len(found) == 1 else [f"{name}.html" for name in names]
    lines = [verdict(one, model) for one in found]
    with replaced(out, "decide-") as folder:
        for one, page in zip(found, pages, strict=True):
            content = {
                "title": title,
                "decision": one,
                "sections": _sections(one, model),
                "verdict": verdict(one, model),
            }
            content |= {"advice": advice(one, model), "limits": LIMITS, "links": _links(one, out)}
            (folder / page).write_text(render("decide.html.j2", content), encoding="utf-8")
        if len(found) > 1:
            entries = list(zip(found, pages, lines, strict=True))
            text = render("decide_index.html.j2", {"title": title, "entries": entries, "limits": LIMITS})
            (folder / "index.html").write_text(text, encoding="utf-8")
    return [f"{one.title}, {one.data}: {line}" for one, line in zip(found, lines, strict=True)]


def _sections(decision: Decision, model: EnergyModel) -> list[tuple[str, Sequence[str], list[list[str]]]]:
    """(heading, heads, rows) of the tables behind that of the candidates."""
    name = decision.best
    _, operations = decision.measured[name]
    return [
        ("Every way to run it", CANDIDATE_HEADS, candidate_rows(decision, model)),
        (f"Energy of {name} by cause (nJ per image)", CAUSE_HEADS, cause_rows(operations, model)),
        (f"Layers of {name}", LAYER_HEADS, layer_rows(operations, model)),
    ]


def _links(decision: Decision, out: Path) -> list[tuple[str, str]]:
    return [(name, relative_address(run["path"], out) + "/") for name, (run, _) in decision.measured.items()]


def energy_table(found: Sequence[Decision], model: EnergyModel) -> str:
    """A line per network for the docs: its cheapest spiking run beside the int8 network."""
    heads = (
        "network", "cheapest spiking run", "accuracy", "int8 ReLU", "latency", "spikes per synapse",
        "spiking (nJ)", "int8 ReLU (nJ)", "over int8", "over int8, zeros skipped", "breaks even at",
    )  # fmt: skip
    rows = []
    for one in found:
        best = one.candidate(one.best)
        run, operations = one.measured[one.best]
        limits = _ends(relu_energy(model, operations, INT8, end) for end in ENDS)
        others = [
            _ends(relu_energy(model, operations, b, end) for end in ENDS)
            for b in baselines(operations, model)
            if b.skip and b.bits == 8
        ]
        rows.append(
            [
                one.title, one.best, percent(best.accuracy),
                percent(run["ann/int8_acc"]) if is_number(run.get("ann/int8_acc")) else NOTHING, best.latency,
                f"{operations.spikes_per_synapse:.2f}", span(best.energy), span(limits),
                span([a / b for a, b in zip(best.energy, limits, strict=True)]),
                span([a / b for a, b in zip(best.energy, others[0], strict=True)]) if others else NOTHING,
                span([(operations.steps or 1) * break_even(model, operations, INT8, end) for end in ENDS]),
            ]
        )  # fmt: skip
    return markdown_table(heads, rows)
