"""SpikeRecord: the result of a simulation in steps, and the input of all metrics. T steps, B images, C classes.

Its size grows with images x steps (one predicted class each) and with layers x steps, not with neurons.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from respike.errors import InputError
from respike.simulate.connections import Connections

BLOCK = 1 << 24  # neurons times steps that are counted at once


@dataclass(frozen=True)
class Trace:
    """The complete response to one image, by layer: spikes (T, ...N), and potentials (T, ...N) before the reset, in
    units of the threshold."""

    spikes: dict[str, Tensor]
    potentials: dict[str, Tensor]


@dataclass(frozen=True)
class SpikeRecord:
    """The result of simulating B images for T steps.

    index: image numbers (B,); predicted: class with the most output spikes, or the largest summed output current, so far, ties
    to the lowest, int16 (T, B), -1 in the first `read_from` steps, whose output is not read;
    counts: final output spikes int32 (B, C), or, of a network read by its output current, its sum, float64, with weight_bits
    in units of the output layer's grid, so that only ratios have a meaning; spikes and synops:
    per layer int64 (T,), summed over images, the input included where it spikes (a synaptic operation is counted in the layer
    that receives it); neurons: per layer that spikes, and the input's pixels (of a max-pool, its windows); pools: the max-pools
    among them, which spike without neurons; ann_macs: multiply-accumulates of one pass without spikes, per image; analog_macs:
    multiply-accumulates per image and step on an analog input and on carried currents, 0 where all values are spikes; dt:
    seconds per step, and times_ms: simulated time of each step (T,), both None for a network whose steps have no length in
    seconds; traces: by image number.
    """

    index: Tensor
    predicted: Tensor
    counts: Tensor
    spikes: dict[str, Tensor]
    synops: dict[str, Tensor]
    neurons: dict[str, int]
    ann_macs: int
    analog_macs: int = 0
    dt: float | None = None
    times_ms: Tensor | None = None
    pools: tuple[str, ...] = ()
    read_from: int = 0
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
        """The record of all images from records of disjoint parts, in the order given."""
        if not parts:
            raise InputError("there is no image to simulate; give at least one")
        first = parts[0]
        return cls(
            index=torch.cat([part.index for part in parts]),
            predicted=torch.cat([part.predicted for part in parts], dim=1),
            counts=torch.cat([part.counts for part in parts]),
            spikes={name: torch.stack([part.spikes[name] for part in parts]).sum(0) for name in first.spikes},
            synops={name: torch.stack([part.synops[name] for part in parts]).sum(0) for name in first.synops},
            neurons=first.neurons,
            ann_macs=first.ann_macs,
            analog_macs=first.analog_macs,
            dt=first.dt,
            times_ms=first.times_ms,
            pools=first.pools,
            read_from=first.read_from,
            traces={number: trace for part in parts for number, trace in part.traces.items()},
        )


class Tally:
    """Counts the spikes and synaptic operations of one chunk of images, layer by layer. All counts are exact.

    steps: T; analog: the layers, or "input", whose values are currents without spikes; pools: the max-pools of spikes;
    read_current: the class is read from the summed output current, not from its spikes; drop_first_output: the output layer
    gets no input in the first step; read_from, dt, times_ms: as in `SpikeRecord`.
    """

    def __init__(
        self,
        connections: Connections,
        steps: int,
        *,
        analog: Collection[str] = (),
        pools: Collection[str] = (),
        read_current: bool = False,
        drop_first_output: bool = False,
        read_from: int = 0,
        dt: float | None = None,
        times_ms: Tensor | None = None,
    ):
        self.connections, self.steps, self.analog, self.read_current = connections, steps, analog, read_current
        self.pools = tuple(pools)
        self.drop_first_output, self.read_from = drop_first_output, read_from
        self.dt, self.times_ms = dt, times_ms
        self.spikes: dict[str, Tensor] = {}
        self.synops = {layer.name: torch.zeros(steps, dtype=torch.int64) for layer in connections.layers}

    def add(self, name: str, spikes: Tensor, first: int = 0) -> None:
        """Count spikes (T', B, ...N) of a layer, or of the input, from step `first` on, and the operations that they cause."""
        if name in self.analog:
            return
        counted = self.spikes.setdefault(name, torch.zeros(self.steps, dtype=torch.int64))
        for block in spikes.split(max(1, BLOCK // spikes[0, 0].numel())):
            per_neuron = block.sum(1).double().flatten(1)  # (T', N): at most B each, exact
            steps = slice(first, first + len(per_neuron))
            first = steps.stop
            counted[steps] = per_neuron.sum(1).long().cpu()
            for layer in self.connections.layers:
                for source, fan_out in zip(layer.sources, layer.fan_outs, strict=True):
                    if source == name:
                        self.synops[layer.name][steps] += (per_neuron @ fan_out.to(per_neuron).flatten()).long().cpu()

    def record(self, index: Tensor, output: Tensor) -> SpikeRecord:
        """The record of the chunk from its image numbers (B,) and the spikes (or currents) of its output layer (T, B, C)."""
        read = output.flatten(2).double()  # (T, B, C)
        if self.read_from:
            read = torch.cat([torch.zeros_like(read[: self.read_from]), read[self.read_from :]])
        counts = read.cumsum(0) if self.read_current else read.cumsum(0).int()
        predicted = predict(counts)
        predicted[: self.read_from] = -1
        if self.drop_first_output:
            self.synops[self.connections.layers[-1].name][0] = 0
        return SpikeRecord(
            index=index.cpu(),
            predicted=predicted.cpu(),
            counts=counts[-1].cpu(),
            spikes=self.spikes,
            synops=self.synops,
            **self.constants(),
        )

    def constants(self) -> dict[str, Any]:
        """The fields of a record that do not depend on the images."""
        units = self.connections.neurons.items()
        return {
            "neurons": {name: count for name, count in units if name == "input" or name not in self.analog},
            "pools": self.pools,
            "read_from": self.read_from,
            "ann_macs": self.connections.macs(),
            "analog_macs": sum(self.connections.macs(source) for source in self.analog),
            "dt": self.dt,
            "times_ms": self.times_ms,
        }


def predict(counts: Tensor) -> Tensor:
    """Class with most spikes or the largest sum, ties to the lowest class: counts (..., C) -> int16 (...)."""
    if counts.is_floating_point():
        ties = counts == counts.amax(-1, keepdim=True)
        return ties.to(torch.uint8).argmax(-1).to(torch.int16)  # the first of equal values
    classes = counts.shape[-1]
    ranked = counts.long() * classes + torch.arange(classes - 1, -1, -1, device=counts.device)
    return ranked.argmax(-1).to(torch.int16)


def image_numbers(images: Tensor, index: Tensor | None, chunk: int | None, trace: Sequence[int] = ()) -> Tensor:
    """The numbers (B,) of images to simulate, 0, 1, ... without `index`.

    Raises InputError where there is no image, a number for each is not given, chunk is below 1, or a traced one is not among
    them.
    """
    if not len(images):
        raise InputError("there is no image to simulate; give at least one")
    index = torch.arange(len(images)) if index is None else index
    if len(index) != len(images):
        raise InputError(f"{len(images)} images but {len(index)} image numbers; give one number per image")
    if chunk is not None and chunk < 1:
        raise InputError(f"simulate.chunk={chunk}: a number of images from 1 up, as in simulate.chunk=100")
    if missing := sorted(set(trace) - set(index.tolist())):
        raise InputError(f"trace={missing}: no such image numbers among those simulated")
    return index
