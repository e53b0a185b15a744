"""Membrane potentials of single neurons of a TTFSNet for one image, from the spike times in a record."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from respike.convert.exact.ttfs_net import B1Layer, TTFSLayer, TTFSNet
from respike.errors import InputError
from respike.neurons.ttfs import potential_course
from respike.simulate.ttfs.patches import Patches
from respike.simulate.ttfs.program import compile_layer, network_shapes, noisy_weight
from respike.simulate.ttfs.settings import TTFSSettings


@dataclass(frozen=True)
class Potential:
    """One neuron's potential: `values` (K,) at `times` (K,), linear in between.

    neuron: its index in the flattened layer; arrivals, weights (F,): when its inputs spike and by how much each changes the
    slope, including zero padding, which spikes at t_min; theta, spike: threshold and recorded spike time, None in the output
    layer.
    """

    neuron: int
    times: Tensor
    values: Tensor
    arrivals: Tensor
    weights: Tensor
    theta: float | None
    spike: float | None


def potentials(
    snn: TTFSNet, name: str, spike_times: dict[str, Tensor], neurons: Sequence[int], **settings: Any
) -> list[Potential]:
    """The potentials of some neurons of a layer up to its t_max, or of the output layer up to its reading.

    spike_times: of one image, as in `TTFSRecord.spike_times`; neurons: indices in the flattened layer; settings: those of the
    record, because noise on weights and alpha changes potentials. Raises InputError for an unknown layer or neuron.
    """
    if name not in snn.layers:
        raise InputError(f"layer '{name}' is not in the network; choose one of {', '.join(snn.layers)}")
    layer, is_output = snn.layers[name], name == list(snn.layers)[-1]
    shape = network_shapes(snn, spike_times["input"].shape)[name][1]
    beyond = [neuron for neuron in neurons if not 0 <= neuron < shape.numel()]
    if beyond:
        raise InputError(f"neurons {beyond} of layer '{name}': choose from 0 to {shape.numel() - 1}")
    weight, alpha, theta = _constants(snn, name, shape, TTFSSettings(**settings))
    device, t_min = weight.device, float(layer.t_min)
    ends = {source: 1.0 if source == "input" else float(snn.layers[source].t_max) for source in snn.sources(name)}
    sources = {source: (end - spike_times[source].to(device).double())[None] for source, end in ends.items()}
    leads = snn.inputs(sources, name)
    patches = Patches(layer.synapses, leads)
    chosen = torch.zeros(1, *shape, dtype=torch.bool, device=device)
    chosen.view(-1)[list(neurons)] = True
    keys, rows, places = patches.neurons(chosen)
    arrivals, found = t_min - patches.rows(keys), {}
    onset = torch.tensor([float(layer.t_min_prev)], dtype=torch.float64, device=device)
    for i, place in enumerate(places.tolist()):
        inputs, jumps = arrivals[i], weight[rows[i]]
        drive = alpha[place : place + 1]
        if isinstance(layer, B1Layer):  # from t_min on the slope is alpha, whatever the inputs were
            read = inputs < t_min
            inputs, jumps, onset = inputs[read], jumps[read], torch.full_like(onset, t_min)
            drive = drive - jumps.sum()
        onsets, drives = torch.cat([inputs, onset]), torch.cat([jumps, drive])
        times, values = potential_course(onsets, drives, t_min if is_output else float(layer.t_max))
        spike = None if is_output else float(spike_times[name].flatten()[place])
        found[place] = Potential(
            neuron=place,
            times=times.cpu(),
            values=values.cpu(),
            arrivals=inputs.cpu(),
            weights=jumps.cpu(),
            theta=None if theta is None else float(theta[place]),
            spike=spike,
        )
    return [found[neuron] for neuron in neurons]


def _constants(
    snn: TTFSNet, name: str, shape: torch.Size, settings: TTFSSettings
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Weights (rows, F), and alpha and theta of every neuron (N,), in float64; the output layer has no theta."""
    layer = snn.layers[name]
    if isinstance(layer, TTFSLayer):
        program = compile_layer(name, layer, settings)
        alpha, theta = program.alpha.expand(shape).flatten(), program.theta.expand(shape).flatten()
        return program.weight.double().flatten(1), alpha, theta
    weight = noisy_weight(name, layer.synapses.weight, settings).to(settings.dtype)
    return weight.double().flatten(1), layer.alpha.double().expand(shape).flatten(), None
