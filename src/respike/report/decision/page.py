"""The page of a network: verdict, advice, and tables of candidates, causes and layers; and a line of the docs' table."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from respike.metrics.energy import ENDS, EnergyModel, baselines, break_even, one_layer, relu_energy, spiking_energy
from respike.metrics.operations import INPUT, Operations
from respike.report.columns import NOTHING, count, percent
from respike.report.decision.candidates import (
    INT8,
    Decision,
    decisions,
    default_model,
    in_nanojoule,
    int8_energy,
    ratios,
)
from respike.report.decision.words import CAUSE_WORDS, LIMITS, advice, energy_verdict, span
from respike.report.groups import slug
from respike.report.page import check_folder, relative_address, render, replaced
from respike.report.runs import is_number
from respike.report.tables import markdown_table
from respike.report.verdicts import judge

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
    int8, rows = int8_energy(operations, model), []
    for one in decision.candidates:
        beaten = decision.dominated(one)
        rows.append(
            [
                one.name, NOTHING if math.isnan(one.accuracy) else percent(one.accuracy), one.latency, one.operations,
                span(one.energy), span(ratios(one.energy, int8)),
                "; ".join(beaten[:2]) + ("; ..." if beaten[2:] else "") or NOTHING,
            ]
        )  # fmt: skip
    return rows


LAYER_HEADS = (
    "layer",
    "spikes per synapse",
    "breaks even at",
    "spiking (nJ)",
    "int8 ReLU (nJ)",
    "over int8",
    "potentials",
)


def layer_rows(operations: Operations, model: EnergyModel) -> list[list[str]]:
    """The cells of the table of layers, under LAYER_HEADS."""
    rows = []
    for layer in operations.layers:
        alone = one_layer(operations, layer)
        ours = in_nanojoule(model.spiking(operations, layer, end) for end in ENDS)
        theirs = in_nanojoule(model.relu(layer, INT8.bits, end) for end in ENDS)
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
                span(ratios(ours, theirs)) if min(theirs) > 0 else NOTHING,
                ", ".join(ways) or NOTHING,
            ]
        )
    return rows


CAUSE_HEADS = ("cause", "spiking, low end", "spiking, high end", "int8 ReLU, low end", "int8 ReLU, high end")


def cause_rows(operations: Operations, model: EnergyModel) -> list[list[str]]:
    """The cells of the table of causes (nJ), under CAUSE_HEADS."""
    costs = [spiking_energy(model, operations, end) for end in ENDS]
    costs += [relu_energy(model, operations, INT8, end) for end in ENDS]
    return [[CAUSE_WORDS[cause], *(count(cost[cause] / 1000) for cost in costs)] for cause in CAUSE_WORDS]


def decision_pages(
    found: Sequence[Decision], out: Path, title: str, left_out: Mapping[str, str] = MappingProxyType({})
) -> dict[str, str]:
    """The pages, by the names of their files in the folder `out`: index.html, and for several networks one page each.

    left_out: run -> why it could not be read or judged.
    """
    model = default_model()
    names: list[str] = []
    for one in found:
        names.append(slug(one.title, names))
    files = ["index.html"] if len(found) == 1 else [f"{name}.html" for name in names]
    lines = [energy_verdict(one, model) for one in found]
    pages = {}
    for one, file, line in zip(found, files, lines, strict=True):
        content = {"title": title, "decision": one, "sections": _sections(one, model), "verdict": line}
        content |= {"advice": advice(one, model), "limits": LIMITS, "links": _links(one, out), "left_out": left_out}
        pages[file] = render("decide.html.j2", content)
    if len(found) > 1:
        entries = list(zip(found, files, lines, strict=True))
        pages["index.html"] = render(
            "decide_index.html.j2", {"title": title, "entries": entries, "limits": LIMITS, "left_out": left_out}
        )
    return pages


def write_decisions(runs: pd.DataFrame, out: Path | str, title: str) -> list[str]:
    """Write `decision_pages` into the folder `out`; returns a line per network, and one per run that is left out.

    runs: a frame from `load_runs`. Raises InputError when `out` is a file, or no run counted its operations.
    """
    out, model = Path(out), default_model()
    check_folder(out, "page")
    found = decisions(runs, model)
    judged = judge(runs)
    left_out = {str(name): str(reason) for name, reason in judged["failure"].items() if reason}
    pages = decision_pages(found, out, title, left_out)
    with replaced(out, "*.html") as folder:
        for file, text in pages.items():
            (folder / file).write_text(text, encoding="utf-8")
    lines = [f"{one.title}, {one.data}: {energy_verdict(one, model)}" for one in found]
    return lines + [f"left out: {name}: {reason}" for name, reason in left_out.items()]


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
        int8 = int8_energy(operations, model)
        others = [
            in_nanojoule(relu_energy(model, operations, b, end) for end in ENDS)
            for b in baselines(operations, model)
            if b.skip and b.bits == 8
        ]
        rows.append(
            [
                one.title, one.best, percent(best.accuracy),
                percent(run["ann/int8_acc"]) if is_number(run.get("ann/int8_acc")) else NOTHING, best.latency,
                f"{operations.spikes_per_synapse:.2f}", span(best.energy), span(int8),
                span(ratios(best.energy, int8)), span(ratios(best.energy, others[0])) if others else NOTHING,
                span([(operations.steps or 1) * break_even(model, operations, INT8, end) for end in ENDS]),
            ]
        )  # fmt: skip
    return markdown_table(heads, rows)
