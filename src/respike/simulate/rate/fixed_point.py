"""The fixed-point grid: layers rounded to integers, whose sums are exact in any order.

Weights, biases, thresholds, start potentials and input currents are rounded, layer by layer, to multiples of a power
of two. They are held in float64, which adds integers below 2^53 exactly, so that no batch size, order of summation,
thread count or device can change a spike. program.py compiles whole networks.
"""

import copy
import math
import sys
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from respike.convert.graph.nodes import PlaceMap, Scale
from respike.convert.rate.rate_snn import SpikingLayer, Synapse
from respike.errors import InputError
from respike.simulate.connections import sum_pool

EXACT = 2**53  # integers up to here are exact in float64
ROWS = 512  # of a weight matrix at a time
FINEST = 2.0**-16  # of the threshold: where no weight is larger, the grid is not made finer


def largest_drive(
    layer: SpikingLayer, shapes: dict[str, torch.Size], largest: Mapping[str, float], grids: Mapping[str, float]
) -> float:
    """The drive if every weight and bias were positive and every source at its largest value.

    layer: rounded by `round_layer`; shapes: of its sources; largest: the largest value of each source (1 for spikes);
    grids: by source of currents, the integer that stands for 1, by which its products are divided.
    """
    total = torch.zeros((), dtype=torch.float64, device=_device(layer))
    for synapse in layer.synapses:
        name = synapse.source
        part = torch.full((1, *shapes[name]), largest[name], dtype=torch.float64, device=_device(layer))
        for module in synapse:
            part = _with_positive_weights(module, part)
        total = total + (part / grids[name] + 1 if name in grids else part)
    bias = None if layer.bias is None else layer.bias.abs()
    return float(SpikingLayer(layer.kind, [], bias, layer.pool).driven(total).max())


def _with_positive_weights(module: nn.Module, values: Tensor) -> Tensor:
    """The values (float64) of a module of a synapse if none of its weights were negative."""
    if isinstance(module, nn.Linear):  # which may be too large for a copy in memory
        return torch.cat([nn.functional.linear(values, rows.abs().double()) for rows in module.weight.split(ROWS)], -1)
    positive = copy.deepcopy(module).double()
    for tensor in [*positive.parameters(), *positive.buffers()]:
        tensor.abs_()
    return positive(values)


def _device(layer: SpikingLayer) -> torch.device:
    return next(iter([*layer.parameters(), *layer.buffers()]), torch.empty(0)).device


def round_layer(layer: SpikingLayer, bits: int, input_grid: int, threshold: float) -> float:
    """Round a layer's synapses (float64) in place to integers. Returns the integer that stands for a potential of 1.

    bits: signed bits of a weight; input_grid: the integer that stands for an input of 1; threshold: of its neurons. A pool that
    is a spiking layer keeps its integer sum, and its threshold is multiplied by its area. Pools in front of or behind weights
    are folded into them. Raises InputError for weights that are not finite, or that are too large for the grid.
    """
    area = fold_pools(layer)
    if area is not None:
        (pool,) = layer.synapses
        resolution = 1 << (bits - 1)  # of the threshold: the pool's weights are 1
        pool.append(Scale(resolution))
        _check_resolution(resolution * area, 1 / area, bits, threshold)
        return float(resolution * area * (input_grid if pool.source == "input" else 1))
    return _round_weights(layer, bits, input_grid, threshold)


def fold_pools(layer: SpikingLayer) -> int | None:
    """Replace average pools of a layer's synapses in place by sums, and divide its weights by their areas.

    Returns the area if the layer has nothing but one pool: then it is the threshold that has to be multiplied by it. Else None.
    """
    only_pool = len(layer.synapses) == 1 and layer.synapses[0].weighted is None and layer.bias is None
    for synapse in layer.synapses:
        before, behind = _sum_pools(synapse)
        if only_pool:
            return before * behind
        if synapse.weighted is None:
            synapse.append(Scale(1 / (before * behind)))
        else:
            synapse.rescale(1.0, before * behind)
    return None


def _sum_pools(synapse: Synapse) -> tuple[int, int]:
    """Replace average pools of the synapse by sums. Returns the areas they divided by, before and behind the weights."""
    weighted, before, behind = synapse.weighted, 1, 1
    for i, module in enumerate(synapse):
        if module is weighted:
            before, behind = behind, 1
        elif isinstance(module, nn.AvgPool2d | PlaceMap):
            synapse[i], area = sum_pool(module)
            behind *= area
    return before, behind


def _round_weights(layer: SpikingLayer, bits: int, input_grid: int, threshold: float) -> float:
    weights = [largest_weight(synapse) for synapse in layer.synapses]
    biases = [] if layer.bias is None else [float(layer.bias.abs().max())]
    if not all(map(math.isfinite, [*weights, *biases])):
        raise InputError("weights or biases are not finite numbers: train the network again, or read another file")
    largest = max(weights)
    unit = _unit(max(largest, FINEST * threshold) if largest else threshold, bits)
    _check_resolution(unit, largest, bits, threshold)
    whole = unit * (input_grid if "input" in layer.sources else 1)  # all branches of a layer share one unit
    for synapse in layer.synapses:
        own = weights_of(synapse)
        own.mul_(unit).round_().mul_(1 if synapse.source == "input" else whole / unit)
    if layer.bias is not None:
        layer.bias.copy_((layer.bias * whole).round())
    return whole


def _unit(largest: float, bits: int) -> float:
    """The largest power of two by which a weight can be multiplied to be an integer of so many signed bits."""
    ratio = ((1 << (bits - 1)) - 1) / max(largest, sys.float_info.min)
    return 2.0 ** math.floor(math.log2(min(ratio, sys.float_info.max)))


def _check_resolution(unit: float, largest: float, bits: int, threshold: float) -> None:
    """Raise InputError if half a unit, the error of a weight, is too much of the threshold: 1/32 of it with 16 bits."""
    if threshold * unit >= _units(bits):
        return
    enough = [more for more in range(bits + 1, 25) if threshold * _unit(largest, more) >= _units(more)]
    advice = f"simulate.weight_bits={enough[0]} or simulate.weight_bits=null" if enough else "simulate.weight_bits=null"
    raise InputError(
        f"weights of up to {largest:.3g} are too large for the grid at a threshold of {threshold:.3g}; normalize the network, "
        f"or type {advice}"
    )


def _units(bits: int) -> float:
    """The smallest number of units of a threshold. Half a unit is rounded up to one: few bits are asked for to be coarse."""
    return max(0.5, 2.0 ** (bits // 2 - 4))


def largest_weight(synapse: Synapse) -> float:
    """The largest magnitude of the weights of a rounded synapse."""
    smallest, largest = torch.aminmax(weights_of(synapse))  # in memory of its own, not in a copy of the weights
    return float(torch.maximum(-smallest, largest))


def weights_of(synapse: Synapse) -> Tensor:
    """The weights or the factor of a rounded synapse, which always has one of them."""
    weighted = synapse.weighted
    assert weighted is not None
    return weighted.factor if isinstance(weighted, Scale) else weighted.weight.data
