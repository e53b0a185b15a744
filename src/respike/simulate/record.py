"""SpikeRecord: what every metric needs of a simulation, and no more. T steps, B images, C classes.

Its size grows with images x steps (one predicted class each) and with layers x steps, not with neurons.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from respike.errors import InputError
from respike.simulate.rate.program import Program
from respike.simulate.rate.settings import Settings


@dataclass(frozen=True)
class Trace:
    """All of one image, by layer: spikes (T, ...N), and potentials (T, ...N) after charging and before the reset, in
    units of the threshold."""

    spikes: dict[str, Tensor]
    potentials: dict[str, Tensor]


@dataclass(frozen=True)
class SpikeRecord:
    """The result of simulating B images for T steps.

    index: image numbers (B,); predicted: class with most output spikes so far, ties to the lowest, int16 (T, B);
    counts: final output spikes int32 (B, C); times_ms: simulated time of each step (T,); spikes and synops: per layer
    int64 (T,), summed over images, the input included where it spikes (synops are booked on the layer that receives
    them); neurons: per layer; dt: seconds per step (with times_ms NaN where steps have no length); ann_macs: products
    (multiply-accumulates) of the ReLU network per image; analog_macs: those per image and step of an analog input, 0 for
    spikes; traces: by image number.
    """

    index: Tensor
    predicted: Tensor
    counts: Tensor
    times_ms: Tensor
    spikes: dict[str, Tensor]
    synops: dict[str, Tensor]
    neurons: dict[str, int]
    dt: float
    ann_macs: int
    analog_macs: int = 0
    traces: dict[int, Trace] = field(default_factory=dict)

    @property
    def images(self) -> int:
        """Number of images B."""
        return len(self.index)

    @property
    def steps(self) -> int:
        """Number of steps T."""
        return len(self.predicted)

    @classmethod
    def merge(cls, parts: Sequence["SpikeRecord"]) -> "SpikeRecord":
        """The record of the whole from records of disjoint parts, in the order given."""
        if not parts:
            raise InputError("there is no image to simulate; give at least one")
        first = parts[0]
        return cls(
            index=torch.cat([part.index for part in parts]),
            predicted=torch.cat([part.predicted for part in parts], dim=1),
            counts=torch.cat([part.counts for part in parts]),
            times_ms=first.times_ms,
            spikes={name: sum(part.spikes[name] for part in parts) for name in first.spikes},
            synops={name: sum(part.synops[name] for part in parts) for name in first.synops},
            neurons=first.neurons,
            dt=first.dt,
            ann_macs=first.ann_macs,
            analog_macs=first.analog_macs,
            traces={number: trace for part in parts for number, trace in part.traces.items()},
        )


class Tally:
    """Counts the spikes and synaptic operations of one chunk, layer by layer. All counts are exact."""

    def __init__(self, program: Program, settings: Settings):
        self.program, self.settings = program, settings
        self.spikes: dict[str, Tensor] = {}
        self.synops = {layer.name: torch.zeros(settings.steps, dtype=torch.int64) for layer in program.layers}

    def add(self, name: str, spikes: Tensor) -> None:
        """Count the spikes (T, B, ...N) of a layer, or of the input, and what they cause in the layers they reach."""
        if name == "input" and self.settings.encode.analog:
            return
        per_neuron = spikes.sum(1).double()  # (T, ...N): at most B each, exact
        self.spikes[name] = per_neuron.flatten(1).sum(1).long().cpu()
        for layer in self.program.layers:
            for source, fan_out in zip(layer.synapses.sources, layer.fan_outs, strict=True):
                if source == name:
                    self.synops[layer.name] += (per_neuron.flatten(1) @ fan_out.to(per_neuron).flatten()).long().cpu()

    def record(self, index: Tensor, output: Tensor) -> SpikeRecord:
        """The record of the chunk from its image numbers (B,) and the spikes of its output layer (T, B, C)."""
        counts = output.flatten(2).cumsum(0).int()  # (T, B, C)
        if self.settings.drop_first_output:
            self.synops[self.program.layers[-1].name][0] = 0
        return SpikeRecord(
            index=index.cpu(),
            predicted=predict(counts).cpu(),
            counts=counts[-1].cpu(),
            spikes=self.spikes,
            synops=self.synops,
            **constants(self.program, self.settings),
        )


def constants(program: Program, settings: Settings) -> dict[str, Any]:
    """The fields of a record that do not depend on the images."""
    sizes = {layer.name: layer.shape.numel() for layer in program.layers}
    return {
        "times_ms": settings.times_ms,
        "neurons": {"input": program.input_shape.numel()} | sizes,
        "dt": settings.dt,
        "ann_macs": program.macs(),
        "analog_macs": program.macs("input") if settings.encode.analog else 0,
    }


def predict(counts: Tensor) -> Tensor:
    """Class with most spikes, ties to the lowest class: integer counts (..., C) -> int16 (...)."""
    classes = counts.shape[-1]
    ranked = counts.long() * classes + torch.arange(classes - 1, -1, -1, device=counts.device)
    return ranked.argmax(-1).to(torch.int16)
