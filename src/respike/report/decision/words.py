"""Whether spiking pays, and what would have to change, in sentences for an engineer."""

import math
from collections.abc import Sequence

import pandas as pd

from respike.metrics.energy import CAUSES, ENDS, Cost, EnergyModel, baselines, break_even, spiking_energy
from respike.metrics.operations import Operations
from respike.report.columns import count, percent
from respike.report.decision.candidates import INT8, POINT, Candidate, Decision, int8_energy, ratios
from respike.report.runs import is_number

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
    "the image or idle power, no chip maps the layers exactly so, and latency has no price. Low end: each weight is read once "
    "per image; high end: at each use; the same for the spiking and the ReLU network."
)


def span(ends: Sequence[float], unit: str = "") -> str:
    """Two ends in words: "12,292 to 60,627 nJ", once if they are the same."""
    texts = list(dict.fromkeys(count(end) for end in sorted(ends)))
    return " to ".join(texts) + (f"\u00a0{unit}" if unit else "")


def energy_verdict(decision: Decision, model: EnergyModel) -> str:
    """Whether the best spiking run costs less than the int8 ReLU network, dense and with zeros skipped.

    One that costs more than a dense ReLU network does not pay. One that costs less and is more than a point less accurate, or
    without a ReLU network of its weights whose accuracy and zeros could be measured, is not decided.
    """
    name = decision.best
    best = decision.candidate(name)
    _, operations = decision.measured[name]
    over_dense = ratios(best.energy, int8_energy(operations, model))
    dense, skipping = (
        next((c for c in decision.candidates if c.name == f"ReLU network, int8{more}"), None)
        for more in ("", ", zeros skipped")
    )
    int8 = f" ({percent(dense.accuracy)})" if dense and not math.isnan(dense.accuracy) else ""
    accuracy = f"{percent(best.accuracy)} at {best.latency}"
    said = f"{name} ({accuracy}) costs {_times(over_dense)} the energy of the int8 ReLU network{int8}"
    over_skipping = ratios(best.energy, skipping.energy) if skipping else []
    beside = f", and {_times(over_skipping)} that of one that skips zeros" if skipping else ""
    if not skipping and min(over_dense) < 1:
        return _untrained(decision, model, f"{name} ({accuracy}) costs {_times(over_dense)}")
    cheaper = min(over_skipping or over_dense) < 1 or max(over_dense) < 1
    if cheaper and dense and dense.accuracy - best.accuracy > POINT + 1e-9:
        lost = f"{100 * (dense.accuracy - best.accuracy):.2f} points"
        return f"Not decided: {said}{beside}, but is {lost} less accurate."
    if max(over_skipping or over_dense) < 1:
        return f"Spiking pays: {said}{beside}."
    if min(over_skipping or over_dense) < 1:
        return f"Spiking pays under one assumption about memory and not under the other: {said}{beside}."
    if max(over_dense) < 1:
        return f"Spiking pays only against a ReLU network that computes with zeros: {said}{beside}."
    which = "even the cheapest run," if decision.spiking[0].name == name else "the cheapest run of those as accurate,"
    which = which if len(decision.measured) > 1 else "the one run,"
    return f"Spiking does not pay: {which} {said}{beside}."


def _untrained(decision: Decision, model: EnergyModel, costs: str) -> str:
    """The energy of a run without a ReLU network of its weights, beside that of ReLU networks that were not trained."""
    said = f"Not decided: {costs} the energy of a dense int8 ReLU network of the same connections"
    fewer = _of_bits(decision, model)
    if fewer is None:
        return f"{said}. It was not trained: its accuracy and its zeros are not known."
    bits, one = fewer
    over = ratios(decision.candidate(decision.best).energy, one.energy)
    return (
        f"{said}, and {_times(over)} that of one of {bits} bits. Neither was trained: their accuracy and their zeros are "
        "not known."
    )


def _times(factors: Sequence[float]) -> str:
    return f"{span(factors)} times"


def advice(decision: Decision, model: EnergyModel) -> list[str]:
    """Sentences for an engineer: what to choose among, what costs most, how far the break-even is, what was not measured."""
    name = decision.best
    run, operations = decision.measured[name]
    said = [*_choice(decision), _largest(name, [spiking_energy(model, operations, end) for end in ENDS])]
    said += [_break_even(operations, model), *_fewer_bits(decision, model), _dampfhoffer(operations.spikes_per_synapse)]
    int8 = [c for c in decision.candidates if c.name == "ReLU network, int8" and not math.isnan(c.accuracy)]
    if int8:
        said.append(_accuracy(run, decision.candidate(name).accuracy, int8[0].accuracy))
    said += _precision(run, operations, model)
    if any(layer.effective_macs is None for layer in operations.layers if layer.macs):
        said.append("There is no ReLU network of these weights: its accuracy, and its zeros, are not known.")
    if run.get("reduced"):
        said.append(f"The run was reduced: {run['reduced']}.")
    return said


def _of_bits(decision: Decision, model: EnergyModel) -> tuple[int, Candidate] | None:
    """The dense ReLU network of no more values than the steps or times of the best run tell apart, and its bits."""
    _, operations = decision.measured[decision.best]
    bits = next(one.bits for one in baselines(operations, model) if one.name == "bits")
    one = next((one for one in decision.candidates if one.name == f"ReLU network, {bits} bits"), None)
    return None if one is None else (bits, one)


def _fewer_bits(decision: Decision, model: EnergyModel) -> list[str]:
    """What that network costs beside the best run."""
    fewer, ours = _of_bits(decision, model), decision.candidate(decision.best)
    if fewer is None:
        return []
    bits, one = fewer
    over = ratios(one.energy, ours.energy)
    accuracy = "its accuracy is not known" if math.isnan(one.accuracy) else percent(one.accuracy)
    return [
        f"A dense ReLU network of {bits} bits, as many values as the spikes of a neuron tell apart, costs {_times(over)} the "
        f"energy of {ours.name} ({accuracy})."
    ]


def _precision(run: pd.Series, operations: Operations, model: EnergyModel) -> list[str]:
    """What to know where the accuracy was measured with other numbers than those that are priced."""
    priced, bits = model.weight_bits, run.get("cfg.simulate.weight_bits")
    if operations.steps is None and not operations.levels:
        return [
            f"Its weights are priced at {priced} bits and its spike times at {model.time_levels} in each interval; both were "
            f"simulated in floating point: type simulate.levels={model.time_levels} for its accuracy with so many times."
        ]
    how = f"with {bits}" if is_number(bits) else "in floating point"
    said = f"Its weights are priced at {priced} bits and were simulated {how}"
    if operations.steps is None or not is_number(
        run.get("snn/time_to_1pct_ms")
    ):  # steps of direct training have no length
        return [f"{said}: its accuracy with {priced} is not known."]
    return [] if bits == priced else [f"{said}: type simulate.weight_bits={priced} for its accuracy with these."]


def _choice(decision: Decision) -> list[str]:
    """What no other candidate beats, of those whose accuracy is known; nothing of a single one."""
    known = [one for one in decision.candidates if not math.isnan(one.accuracy)]
    best = [
        f"{one.name} ({percent(one.accuracy)}, {one.latency}, {span(one.energy, 'nJ')})"
        for one in known
        if not decision.dominated(one)
    ]
    said = f"Choose among what nothing beats in accuracy, latency and energy together: {'; '.join(best)}."
    return [said] if len(known) > 1 else []


def _largest(name: str, costs: Sequence[Cost]) -> str:
    parts = []
    for cost in costs:
        cause = max(CAUSES, key=lambda one: cost[one])
        parts.append((CAUSE_WORDS[cause], f"{100 * cost[cause] / max(sum(cost.values()), 1e-12):.0f} %"))
    (low, low_share), (high, high_share) = parts
    if parts[0] == parts[1]:
        return f"{low_share} of the energy of {name} goes into {low}."
    if low == high:
        return f"{low_share} (low end) and {high_share} (high end) of the energy of {name} go into {low}."
    return (
        f"At the low end {low_share} of the energy of {name} goes into {low}, at the high end {high_share} into {high}."
    )


def _break_even(operations: Operations, model: EnergyModel) -> str:
    """At how many spikes the network would cost what int8 costs."""
    now = operations.spikes_per_synapse
    if now == 0:
        return "It had no spikes."
    low, high = (break_even(model, operations, INT8, end) * (operations.steps or 1) for end in ENDS)
    unit, fewer = "spikes per synapse and image", "; fewer steps could help" if operations.steps else ""
    if operations.steps is None and min(low, high) >= 1:
        return f"It costs less than int8 at any number of spikes, at most one per neuron; it has {count(now)} {unit}."
    if operations.steps is None and max(low, high) >= 1:
        always, other, limit = ("low", "high", high) if low >= 1 else ("high", "low", low)
        where = count(limit) if limit else "no number of"
        return (
            f"At the {always} end it costs less than int8 at any number of spikes, at most one per neuron, at the {other} end "
            f"it breaks even at {where} {unit}; it has {count(now)}."
        )
    if low == high == 0:
        return (
            "No number of spikes is few enough to break even with int8: what does not depend on them (potentials, constant "
            f"currents, weights) costs more than the whole int8 network. It has {count(now)} {unit}{fewer}."
        )

    def compared(limit: float) -> str:
        return f"{count(now / limit)} times as many" if now > limit else f"{count(limit / now)} times fewer"

    if 0 in (low, high):
        never, other = ("low", "high") if low == 0 else ("high", "low")
        return (
            f"At the {never} end no number of spikes breaks even with int8, at the {other} end {count(low or high)} {unit} "
            f"would; it has {count(now)}, {compared(low or high)}{fewer}."
        )
    if count(low) == count(high):
        return f"It would break even with int8 at {count(low)} {unit}; it has {count(now)}, {compared(low)}."
    return (
        f"It would break even with int8 at {count(low)} (low end) and {count(high)} (high end) {unit}; it has {count(now)}, "
        f"{compared(low)}, and {compared(high)}."
    )


def _dampfhoffer(used: float) -> str:
    low, high = DAMPFHOFFER
    if used < low:
        said = "below the bounds of {}: few enough to compete with every accelerator of ReLU networks considered there"
    elif used > high:
        said = "above the bounds of {}: too many to compete with any efficient accelerator of ReLU networks considered there"
    else:
        said = "within the bounds of {}: it depends on how well an accelerator reuses data whether it competes with it"
    bounds = f"{low} to {high} of Dampfhoffer et al. (2023)"
    return f"{used:.2f} spikes per synapse and image are {said.format(bounds)}."


def _accuracy(run: pd.Series, ours: float, int8: float) -> str:
    lost, images = int8 - ours, run.get("test_images")
    share, word = f"{100 * abs(lost):.2f} %", "fewer" if lost > 0 else "more"
    if share == "0.00 %":
        return "It classifies as many test images correctly as the int8 network."
    if images is None or not is_number(images):
        return f"It classifies {share} {word} of the test images correctly than the int8 network."
    number = f"{round(abs(lost) * images):,}"
    return f"Of {images:,.0f} test images it classifies {number} {word} correctly than the int8 network ({share})."
