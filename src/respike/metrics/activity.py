"""Spike counts and firing rates. Input spikes are reported as the layer "input" and are not part of the totals.

Layers that hand on currents, and an output that is read by its current, have neither neurons nor spikes. A max-pool has spikes,
which count in totals per image, and rates per window, but no neurons.
"""

import torch
from torch import Tensor

from respike.simulate.record import SpikeRecord


def spikes_per_image(record: SpikeRecord) -> Tensor:
    """Cumulative spikes of all layers except the input, averaged over images, after each step: float64 (T,)."""
    total = torch.zeros(record.steps, dtype=torch.int64)
    for name, spikes in record.spikes.items():
        total += spikes if name != "input" else 0
    return total.cumsum(0).double() / record.images


def synops_per_image(record: SpikeRecord) -> Tensor:
    """Cumulative synaptic operations of all layers, averaged over images, after each step: float64 (T,)."""
    total = torch.zeros(record.steps, dtype=torch.int64)
    for operations in record.synops.values():
        total += operations
    return total.cumsum(0).double() / record.images


def firing_rates(record: SpikeRecord) -> dict[str, float]:
    """Mean firing rate of the neurons of each layer, in Hz. "input" is included if the input is spikes.

    The steps of the record must have a length (`dt`).
    """
    assert record.dt is not None
    seconds = record.dt * record.steps
    return {
        name: int(values.sum()) / (record.images * record.neurons[name] * seconds)
        for name, values in record.spikes.items()
    }


def activities(record: SpikeRecord) -> dict[str, float]:
    """Mean spikes per neuron and step, of each layer."""
    return {
        name: int(values.sum()) / (record.images * record.neurons[name] * record.steps)
        for name, values in record.spikes.items()
    }


def activities_over_steps(record: SpikeRecord) -> dict[str, list[float]]:
    """Mean spikes per neuron at each of the T steps, of each layer."""
    return {
        name: (values.double() / (record.images * record.neurons[name])).tolist()
        for name, values in record.spikes.items()
    }


def activity_metrics(record: SpikeRecord) -> dict[str, float]:
    """snn/spikes_per_image, snn/spikes_per_neuron, snn/synops_per_image, and snn/rate/<layer> in Hz.

    If steps have no length in seconds: snn/activity/<layer>, in spikes per neuron and step, in place of the rates.
    """
    spikes = float(spikes_per_image(record)[-1])
    neurons = {name: count for name, count in record.neurons.items() if name not in ("input", *record.pools)}
    fired = sum(int(record.spikes[name].sum()) for name in neurons) / record.images
    synops = sum(int(values.sum()) for values in record.synops.values())
    family, values = ("activity", activities(record)) if record.dt is None else ("rate", firing_rates(record))
    layers = {f"snn/{family}/{name}": value for name, value in values.items()}
    return {
        "snn/spikes_per_image": spikes,
        "snn/spikes_per_neuron": fired / max(sum(neurons.values()), 1),
        "snn/synops_per_image": synops / record.images,
        **layers,
    }
