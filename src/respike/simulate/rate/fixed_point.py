"""The fixed-point grid: layers rounded to integers, whose sums are exact in any order.

Weights, biases, thresholds, start potentials and input currents are rounded, layer by layer, to multiples of a power
of two. They are held in float64, which adds integers below 2^53 exactly, so that no batch size, order of summation,
thread count or device can change a spike. program.py compiles whole networks.
"""

import copy
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from respike.convert.graph.nodes import Scale
from respike.convert.rate.rate_snn import SpikingLayer, Synapse
from respike.simulate.connections import sum_pool

EXACT = 2**53  # integers up to here are exact in float64


def largest_drive(
    layer: SpikingLayer, shapes: dict[str, torch.Size], largest: Mapping[str, float], grids: Mapping[str, float]
) -> float:
    """The drive if every weight and bias were positive and every source at its largest value.

    layer: rounded by `round_layer`; shapes: of its sources; largest: the largest value of each source (1 for spikes);
    grids: by source of currents, the integer that stands for 1, by which its products are divided.
    """
    positive = copy.deepcopy(layer)
    for tensor in [*positive.parameters(), *positive.buffers()]:
        tensor.abs_()
    total = torch.zeros((), dtype=torch.float64, device=_device(layer))
    for synapse in positive.synapses:
        name = synapse.source
        value = torch.full((1, *shapes[name]), largest[name], dtype=torch.float64, device=_device(layer))
        part = synapse(value)
        total = total + (part / grids[name] + 1 if name in grids else part)
    return float(positive.driven(total).max())


def _device(layer: SpikingLayer) -> torch.device:
    return next(iter([*layer.parameters(), *layer.buffers()]), torch.empty(0)).device


def round_layer(layer: SpikingLayer, bits: int, input_grid: int) -> float:
    """Round a layer's synapses and bias (float64) in place to integers. Returns the integer that stands for a potential of 1.

    bits: signed bits of a weight; input_grid: the integer that stands for an input of 1. A pool that is a spiking layer keeps its integer sum, and its threshold is multiplied by its
    area. Pools in front of or behind weights are folded into them.
    """
    only_pool = len(layer.synapses) == 1 and layer.synapses[0].weighted is None and layer.bias is None
    for synapse in layer.synapses:
        before, behind = _sum_pools(synapse)
        if only_pool:
            resolution = 1 << (bits - 1)  # of the threshold: the pool's weights are 1
            synapse.append(Scale(resolution))
            return float(resolution * before * behind * (input_grid if synapse.source == "input" else 1))
        if synapse.weighted is None:
            synapse.append(Scale(1 / (before * behind)))
        else:
            synapse.rescale(1.0, before * behind)
    return _round_weights(layer, bits, input_grid)


def _sum_pools(synapse: Synapse) -> tuple[int, int]:
    """Replace average pools of the synapse by sums. Returns the areas they divided by, before and behind the weights."""
    weighted, before, behind = synapse.weighted, 1, 1
    for i, module in enumerate(synapse):
        if module is weighted:
            before, behind = behind, 1
        elif isinstance(module, nn.AvgPool2d):
            synapse[i], area = sum_pool(module)
            behind *= area
    return before, behind


def _round_weights(layer: SpikingLayer, bits: int, input_grid: int) -> float:
    largest = max(float(weights_of(synapse).abs().max()) for synapse in layer.synapses)
    exponent = math.floor(math.log2(((1 << (bits - 1)) - 1) / largest)) if largest > 0 else 0
    unit = 2.0**exponent
    whole = unit * (input_grid if "input" in layer.sources else 1)  # all branches of a layer share one unit
    for synapse in layer.synapses:
        weights = weights_of(synapse)
        weights.copy_((weights * unit).round() * (1 if synapse.source == "input" else whole / unit))
    if layer.bias is not None:
        layer.bias.copy_((layer.bias * whole).round())
    return whole


def weights_of(synapse: Synapse) -> Tensor:
    """The weights or the factor of a rounded synapse, which always has one of them."""
    weighted = synapse.weighted
    assert weighted is not None
    return weighted.factor if isinstance(weighted, Scale) else weighted.weight.data
