"""What is known of a network: its ReLU network at several bit widths and every spiking run, as candidates, side by side."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from hydra.utils import instantiate
from omegaconf import OmegaConf

from respike.errors import InputError
from respike.metrics.energy import ENDS, MAC_PJ, Baseline, Cost, EnergyModel, baselines, relu_energy, spiking_energy
from respike.metrics.operations import Operations
from respike.report.columns import count, in_steps, latency
from respike.report.comparison.varied import named_by_settings
from respike.report.groups import groups_by_network, shared_title
from respike.report.runs import is_number
from respike.report.verdicts import judge
from respike.runs.conf import CONF
from respike.system.files import read_csv

FP32 = 32  # bits
INT8 = Baseline("int8", 8)
POINT = 0.01  # of accuracy


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
    the runs from before operations were counted.
    """

    title: str
    data: str
    measured: dict[str, tuple[pd.Series, Operations]]
    candidates: tuple[Candidate, ...]
    unmeasured: tuple[str, ...]

    @property
    def spiking(self) -> list[Candidate]:
        """The spiking runs, cheapest first, by the geometric mean of their two ends."""
        return sorted((c for c in self.candidates if c.spiking), key=lambda c: c.energy[0] * c.energy[1])

    @property
    def best(self) -> str:
        """The name of the cheapest spiking run within a point of the most accurate: one that is wrong decides nothing."""
        spiking = self.spiking
        most = max((c.accuracy for c in spiking if not math.isnan(c.accuracy)), default=math.nan)
        return ([c for c in spiking if c.accuracy >= most - POINT - 1e-9] or spiking)[0].name

    def candidate(self, name: str) -> Candidate:
        """The candidate of this name."""
        return next(c for c in self.candidates if c.name == name)

    def dominated(self, candidate: Candidate) -> list[str]:
        """The names of the candidates that beat it."""
        return [other.name for other in self.candidates if other.beats(candidate)]


def decisions(runs: pd.DataFrame, model: EnergyModel) -> list[Decision]:
    """One per trained network and its test images, of a frame from `load_runs`.

    Runs of one architecture whose ReLU networks differ in accuracy, or which were tested on other numbers of images, are
    separate decisions. Networks of which no run counted its operations are left out.
    Raises InputError if no run counted its operations.
    """
    found = [
        _decision(shared_title(members), members, model)
        for group in groups_by_network(judge(runs))
        for _, members in group.runs.groupby(_network_of(group.runs), sort=False)
    ]
    found = [one for one in found if one.measured]
    if not found:
        raise InputError(
            "no finished run has operations.csv, the counts of each layer, which runs have since the energy model exists: "
            "run them again"
        )
    return found


def _network_of(runs: pd.DataFrame) -> pd.Series:
    """What tells trained networks apart: the accuracy as a ReLU network, and the number of test images."""
    known = runs.reindex(columns=["ann/test_acc", "test_images"])
    return known.map(lambda value: f"{value:.6g}" if is_number(value) else "").agg("|".join, axis=1)


def _decision(title: str, runs: pd.DataFrame, model: EnergyModel) -> Decision:
    measured: dict[str, tuple[pd.Series, Operations]] = {}
    priced = [name for name in runs.columns if name.startswith("cfg.energy.")]  # of the run; all are priced anew here
    runs = named_by_settings(runs.drop(columns=priced).copy())
    for name, run in runs.iterrows():
        file = run["path"] / "operations.csv"
        if file.is_file():
            measured[str(name)] = run, _read_operations(file, run)
    candidates: dict[str, Candidate] = {}
    for run, operations in measured.values():
        for baseline in baselines(operations, model):
            made = _relu_candidate(run, operations, baseline, model)
            candidates.setdefault(made.name, made)
    order = sorted(candidates.values(), key=lambda c: -c.energy[1])
    spiking = [_spiking_candidate(name, run, operations, model) for name, (run, operations) in measured.items()]
    unmeasured = tuple(str(name) for name in runs.index if str(name) not in measured)
    return Decision(title, str(runs["data"].iloc[0]), measured, (*order, *spiking), unmeasured)


def _read_operations(file: Path, run: pd.Series) -> Operations:
    """The counts of a run. Raises InputError for a file that was cut or edited: its sums are those of metrics.json.

    Of several seeds the file is that of the lowest.
    """
    first = {key: values[0] for key, values in run["over_seeds"].items()}
    try:
        operations = Operations.from_rows([row.to_dict() for _, row in read_csv(file).iterrows()])
        whole = {"snn/synops_per_image": operations.accumulates, "energy/ann_nj": operations.macs * MAC_PJ / 1000}
    except (LookupError, TypeError, ValueError) as error:
        raise InputError(f"{file}: damaged, not the counts that a run writes; run it again") from error
    told: dict[str, Any] = {key: first.get(key, run.get(key)) for key in whole}
    wrong = [key for key, found in whole.items() if is_number(told[key]) and not math.isclose(found, told[key])]
    if wrong:
        raise InputError(f"{file}: damaged, its sum is not the {wrong[0]} of metrics.json beside it; run it again")
    return operations


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
        in_nanojoule(relu_energy(model, operations, baseline, end) for end in ENDS),
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
        in_steps(str(steps)) if steps else latency(run),
        f"{said}, {count(float(products))} MACs" if products else said,
        in_nanojoule(spiking_energy(model, operations, end) for end in ENDS),
    )


def int8_energy(operations: Operations, model: EnergyModel) -> tuple[float, float]:
    """Both ends of the energy of the dense int8 ReLU network, in nJ per image."""
    return in_nanojoule(relu_energy(model, operations, INT8, end) for end in ENDS)


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """ours / theirs, end by end."""
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def in_nanojoule(costs: Iterable[Cost]) -> tuple[float, float]:
    """Both ends of a cost per image, in nJ."""
    low, high = (sum(cost.values()) / 1000 for cost in costs)
    return low, high
