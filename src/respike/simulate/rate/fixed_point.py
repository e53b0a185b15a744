"""The fixed-point grid: a network in integers, whose sums are exact in any order.

Weights, biases, thresholds, start potentials and input currents are rounded, layer by layer, to multiples of a power
of two. They are held in float64, which adds integers below 2^53 exactly, so that no batch size, order of summation,
thread count or device can change a spike.
"""

import copy
import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from respike.convert.graph.nodes import Scale
from respike.convert.rate.rate_snn import RateSNN, SpikingLayer, Synapse
from respike.errors import InputError
from respike.neurons.integrate_fire import IntegrateFire
from respike.simulate.connections import connections, fixed_pools, layer_shapes, sum_pool
from respike.simulate.rate.program import Program, ProgramLayer

EXACT = 2**53  # integers up to here are exact in float64


def compile_grid(
    snn: RateSNN, input_shape: torch.Size, neuron: IntegrateFire, bits: int, steps: int, largest_current: float | None
) -> Program:
    """The network rounded, layer by layer, to multiples of a power of two, scaled to integers held in float64.

    bits: signed bits of a weight, 2 to 24. largest_current: the largest input current, None for input spikes. A pool
    keeps its integer sum and multiplies its threshold by its area.
    Raises InputError where a sum over the steps could exceed 2^53.
    """
    if not 2 <= bits <= 24:
        raise InputError(f"simulate.weight_bits={bits}: 2 to 24 bits are offered, or null for float32")
    snn = fixed_pools(snn, input_shape).double()
    shapes = layer_shapes(snn, input_shape)
    counted = {name: connections(layer, shapes) for name, layer in snn.layers.items()}
    input_grid = 1 if largest_current is None else 1 << (bits - 1)
    reach = {"input": input_grid * (largest_current or 1)}
    layers = []
    for name, layer in snn.layers.items():
        unit = _round_layer(layer, bits, input_grid)
        largest = _largest_drive(layer, shapes, reach)
        threshold, start = max(1, round(neuron.threshold * unit)), round(neuron.start * unit)
        scaled = replace(neuron, threshold=float(threshold), start=float(start))
        layers.append(ProgramLayer(name, layer, scaled, shapes[name], *counted[name], largest))
        if layers[-1].largest_potential(steps) >= EXACT:
            raise InputError(f"simulate.weight_bits={bits}: sums in layer '{name}' could exceed 2^53; take fewer bits")
    return Program(tuple(layers), torch.float64, None if largest_current is None else input_grid, input_shape)


def _largest_drive(layer: SpikingLayer, shapes: dict[str, torch.Size], reach: dict[str, float]) -> float:
    """The drive if every weight and bias were positive and every source at its largest value (1 for spikes)."""
    positive = copy.deepcopy(layer)
    for tensor in [*positive.parameters(), *positive.buffers()]:
        tensor.abs_()
    sources = {
        name: torch.full((1, *shapes[name]), float(reach.get(name, 1)), dtype=torch.float64, device=_device(layer))
        for name in layer.sources
    }
    return float(positive.drive(sources).max())


def _device(layer: SpikingLayer) -> torch.device:
    return next(iter([*layer.parameters(), *layer.buffers()]), torch.empty(0)).device


def _round_layer(layer: SpikingLayer, bits: int, input_grid: int) -> float:
    """Round a layer's synapses in place to integers. Returns how many of them make potential 1."""
    lone = len(layer.synapses) == 1 and layer.synapses[0].weighted is None
    for synapse in layer.synapses:
        before, behind = _sum_pools(synapse)
        if lone:  # a pool of its own keeps its sum; its threshold is multiplied by the area
            resolution = 1 << (bits - 1)  # of the threshold: the pool's own weights are 1
            synapse.append(Scale(resolution))
            return float(resolution * before * behind * (input_grid if synapse.source == "input" else 1))
        if synapse.weighted is None:
            synapse.append(Scale(1 / (before * behind)))
        else:
            synapse.rescale(1 / (before * behind), 1 / behind)
    return _round_weights(layer, bits, input_grid)


def _sum_pools(synapse: Synapse) -> tuple[int, int]:
    """Let the synapse's pools sum, not average. Returns the areas they divided by, before and behind the weights."""
    weighted, before, behind = synapse.weighted, 1, 1
    for i, module in enumerate(synapse):
        if module is weighted:
            before, behind = behind, 1
        elif isinstance(module, nn.AvgPool2d):
            synapse[i], area = sum_pool(module)
            behind *= area
    return before, behind


def _round_weights(layer: SpikingLayer, bits: int, input_grid: int) -> float:
    largest = max(float(_weights(synapse).abs().max()) for synapse in layer.synapses)
    exponent = math.floor(math.log2(((1 << (bits - 1)) - 1) / largest)) if largest > 0 else 0
    unit = 2.0**exponent
    whole = unit * (input_grid if "input" in layer.sources else 1)  # branches beside an analog one share its unit
    for synapse in layer.synapses:
        weights = _weights(synapse)
        weights.copy_((weights * unit).round() * (1 if synapse.source == "input" else whole / unit))
        if synapse.bias is not None:
            synapse.bias.data.copy_((synapse.bias.data * whole).round())
    return whole


def _weights(synapse: Synapse) -> Tensor:
    weighted = synapse.weighted
    return weighted.factor if isinstance(weighted, Scale) else weighted.weight.data
