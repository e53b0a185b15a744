"""TTFSRecord: the result of a time-to-first-spike simulation, with all that metrics need. B images, C classes.

Its size grows with images (one class and C potentials each) and with layers, not with neurons.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from respike.errors import InputError


@dataclass(frozen=True)
class LayerCounts:
    """Counts of (image, neuron) pairs of one hidden layer.

    pairs: all; certified: proved by a bound to fire after their last input; early: found to fire before it; active: fire
    before t_max, with noise and on the grid, so that a neuron which is silent without noise may count.
    """

    pairs: int = 0
    certified: int = 0
    early: int = 0
    active: int = 0

    def __add__(self, other: "LayerCounts") -> "LayerCounts":
        return LayerCounts(
            self.pairs + other.pairs,
            self.certified + other.certified,
            self.early + other.early,
            self.active + other.active,
        )


@dataclass(frozen=True)
class TTFSRecord:
    """The result of evaluating B images.

    index: image numbers (B,); logits: potentials of the output layer float64 (B, C); counts: per hidden layer; inputs: counts
    of the input layer (pairs and active); synops: per layer, the weights that spikes before t_max reach, summed over images;
    latency: t_min of the output layer; ann_macs: multiply-accumulates of the ReLU network per image; spike_times: for traced
    image numbers, the spike times of the input and of every hidden layer.
    """

    index: Tensor
    logits: Tensor
    inputs: LayerCounts
    counts: dict[str, LayerCounts]
    synops: dict[str, int]
    latency: float
    ann_macs: int
    spike_times: dict[int, dict[str, Tensor]] = field(default_factory=dict)

    @property
    def images(self) -> int:
        """Number of images B."""
        return len(self.index)

    @property
    def predicted(self) -> Tensor:
        """Class with the largest potential, ties to the lowest class, int64 (B,)."""
        return self.logits.argmax(1)

    @classmethod
    def merge(cls, parts: Sequence["TTFSRecord"]) -> "TTFSRecord":
        """The record of all images from records of disjoint parts, in the order given."""
        if not parts:
            raise InputError("there is no image to simulate; give at least one")
        first = parts[0]
        return cls(
            index=torch.cat([part.index for part in parts]),
            logits=torch.cat([part.logits for part in parts]),
            inputs=sum((part.inputs for part in parts), LayerCounts()),
            counts={name: sum((part.counts[name] for part in parts), LayerCounts()) for name in first.counts},
            synops={name: sum(part.synops[name] for part in parts) for name in first.synops},
            latency=first.latency,
            ann_macs=first.ann_macs,
            spike_times={number: times for part in parts for number, times in part.spike_times.items()},
        )
