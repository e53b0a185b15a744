"""A RateSNN prepared for one kind of simulation: shapes, fan-outs, neurons, and weights as they will be used.

Both simulators (clock.py, layer by layer; reference.py, step by step) run a Program and nothing else. In float32
it holds the network's own weights. On the fixed-point grid it holds integers, in float64, whose sums are exact, so
that no order of summation, batch, thread count or device can change a spike.
"""

import copy
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from respike.convert.graph import Scale
from respike.convert.rate_snn import RateSNN, SpikingLayer, Synapse
from respike.errors import InputError
from respike.neurons.integrate_fire import IntegrateFire

EXACT = 2**53  # integers up to here are exact in float64


@dataclass(frozen=True)
class ProgramLayer:
    """One spiking layer: what drives it, its neuron, its shape (without batch), and per synapse the fan-out (source shape)."""

    name: str
    synapses: SpikingLayer
    neuron: IntegrateFire
    shape: torch.Size
    fan_outs: tuple[Tensor, ...]


@dataclass(frozen=True)
class Program:
    """Layers in order, the dtype they compute in, the grid of analog inputs (None: any float) and the input's shape."""

    layers: tuple[ProgramLayer, ...]
    dtype: torch.dtype
    input_grid: int | None
    input_shape: torch.Size

    def macs(self, source: str | None = None) -> int:
        """Multiply-accumulates of one pass of the ReLU network per image: weighted synapses, of one source if given."""
        return sum(
            int(fan_out.sum())
            for layer in self.layers
            for synapse, fan_out in zip(layer.synapses.synapses, layer.fan_outs, strict=True)
            if isinstance(synapse.weighted, nn.Linear | nn.Conv2d) and source in (None, synapse.source)
        )

    def input_values(self, encoded: Tensor) -> Tensor:
        """Encoded input (spikes, or currents rounded to the input grid) in the program's dtype."""
        encoded = encoded.to(self.dtype)
        return encoded if self.input_grid is None or encoded.shape[0] > 1 else (encoded * self.input_grid).round()


def compile_float(snn: RateSNN, input_shape: torch.Size, neuron: IntegrateFire) -> Program:
    """The network in its own precision, every neuron alike."""
    snn = _fixed_pools(snn, input_shape)
    shapes = _shapes(snn, input_shape)
    layers = tuple(
        ProgramLayer(name, layer, neuron, shapes[name], _fan_outs(layer, shapes)) for name, layer in snn.layers.items()
    )
    weights = next(snn.parameters(), torch.empty(0))
    return Program(layers, weights.dtype, None, input_shape)


def compile_grid(snn: RateSNN, input_shape: torch.Size, neuron: IntegrateFire, bits: int, steps: int, analog: bool) -> Program:
    """The network rounded, layer by layer, to multiples of a power of two, scaled to integers held in float64.

    bits: signed bits of a weight, 2 to 24. A pool keeps its integer sum and multiplies its threshold by its area.
    Raises InputError where a sum over the steps could exceed 2^53.
    """
    if not 2 <= bits <= 24:
        raise InputError(f"simulate.weight_bits={bits}: 2 to 24 bits are offered, or null for float32")
    snn = _fixed_pools(snn, input_shape).double()
    shapes = _shapes(snn, input_shape)
    fan_outs = {name: _fan_outs(layer, shapes) for name, layer in snn.layers.items()}
    input_grid = 1 << (bits - 1) if analog else 1
    layers = []
    for name, layer in snn.layers.items():
        unit, largest = _round_layer(layer, bits, input_grid)
        threshold = max(1, round(neuron.threshold * unit))
        if largest * steps >= EXACT:
            raise InputError(f"simulate.weight_bits={bits}: sums in layer '{name}' could exceed 2^53; take fewer bits")
        scaled = replace(neuron, threshold=float(threshold), start=float(round(neuron.start * unit)))
        layers.append(ProgramLayer(name, layer, scaled, shapes[name], fan_outs[name]))
    return Program(tuple(layers), torch.float64, input_grid if analog else None, input_shape)


def _fixed_pools(snn: RateSNN, input_shape: torch.Size) -> RateSNN:
    """A copy whose adaptive pools are ordinary ones, now that shapes are known."""
    snn = copy.deepcopy(snn).eval()
    shapes = _shapes(snn, input_shape)
    for layer in snn.layers.values():
        for synapse in layer.synapses:
            shape = shapes[synapse.source]
            for i, module in enumerate(synapse):
                if isinstance(module, nn.AdaptiveAvgPool2d):
                    synapse[i] = _ordinary_pool(module, shape)
                shape = _output_shape(synapse[i], shape)
    return snn


def _ordinary_pool(module: nn.AdaptiveAvgPool2d, shape: torch.Size) -> nn.AvgPool2d:
    sizes = module.output_size if isinstance(module.output_size, tuple) else (module.output_size,) * 2
    sizes = [side if size is None else size for size, side in zip(sizes, shape[-2:], strict=True)]
    if any(side % size for size, side in zip(sizes, shape[-2:], strict=True)):
        raise InputError(f"an adaptive pool from {tuple(shape[-2:])} to {tuple(sizes)} has windows of unequal size; use nn.AvgPool2d")
    return nn.AvgPool2d(tuple(side // size for size, side in zip(sizes, shape[-2:], strict=True)))


def _output_shape(module: nn.Module, shape: torch.Size) -> torch.Size:
    parameter = next(module.parameters(), torch.empty(0))
    return module(torch.zeros(1, *shape, dtype=parameter.dtype, device=parameter.device)).shape[1:]


def _shapes(snn: RateSNN, input_shape: torch.Size) -> dict[str, torch.Size]:
    shapes = {"input": torch.Size(input_shape)}
    for name, layer in snn.layers.items():
        try:
            ends = {_output_shape(synapse, shapes[synapse.source]) for synapse in layer.synapses}
        except RuntimeError as error:
            raise InputError(f"images of shape {tuple(input_shape)} do not fit the network at layer '{name}': {error}") from error
        if len(ends) > 1:
            raise InputError(f"branches of shapes {[tuple(end) for end in ends]} meet in layer '{name}'; they must be alike")
        shapes[name] = ends.pop()
    return shapes


def _sum_pool(pool: nn.AvgPool2d) -> tuple[nn.AvgPool2d, int]:
    """The same pool without its division, and what it divided by."""
    height, width = pool.kernel_size if isinstance(pool.kernel_size, tuple) else (pool.kernel_size,) * 2
    area = pool.divisor_override or height * width
    if (pool.padding not in (0, (0, 0)) and not pool.count_include_pad) or pool.ceil_mode:
        raise InputError("average pools with ceil_mode, or padding that is not counted, divide by unequal areas; use plain ones")
    return nn.AvgPool2d(pool.kernel_size, pool.stride, pool.padding, divisor_override=1), area


def _fan_outs(layer: SpikingLayer, shapes: dict[str, torch.Size]) -> tuple[Tensor, ...]:
    """Per synapse, how many connections each source neuron has into the layer: int64, source shape."""
    return tuple(_fan_out(synapse, shapes[synapse.source]) for synapse in layer.synapses)


def _fan_out(synapse: Synapse, shape: torch.Size) -> Tensor:
    """The gradient of the summed output of the same connections, all of weight 1."""
    with torch.inference_mode(False), torch.enable_grad():
        connections = copy.deepcopy(synapse).double()
        for i, module in enumerate(connections):
            if isinstance(module, nn.AvgPool2d):
                connections[i] = _sum_pool(module)[0]
            elif isinstance(module, Scale):
                connections[i] = nn.Identity()
            elif hasattr(module, "weight"):
                module.weight = nn.Parameter(torch.ones(module.weight.shape, dtype=torch.float64), requires_grad=False)
                module.bias = None
        ones = torch.ones(1, *shape, dtype=torch.float64, requires_grad=True)
        (reached,) = torch.autograd.grad(connections.cpu()(ones).sum(), ones)
    device = next(synapse.parameters(), torch.empty(0)).device
    return reached[0].round().long().to(device)


def _round_layer(layer: SpikingLayer, bits: int, input_grid: int) -> tuple[float, float]:
    """Round a layer's synapses in place. Returns how many integer units make potential 1, and the largest drive."""
    areas = []
    for synapse in layer.synapses:
        area = 1
        for i, module in enumerate(synapse):
            if isinstance(module, nn.AvgPool2d):
                synapse[i], divisor = _sum_pool(module)
                area *= divisor
        areas.append(area)
    if len(layer.synapses) == 1 and layer.synapses[0].weighted is None:
        grid = input_grid if layer.synapses[0].source == "input" else 1
        resolution = 1 << (bits - 1)  # of the threshold: the pool's own weights are 1
        layer.synapses[0].append(Scale(resolution))
        return float(resolution * areas[0] * grid), float(resolution * areas[0] * grid)
    for synapse, area in zip(layer.synapses, areas, strict=True):
        if synapse.weighted is None:
            synapse.append(Scale(1 / area))
        else:
            synapse.rescale(1 / area, 1)
    return _round_weights(layer, bits, input_grid)


def _round_weights(layer: SpikingLayer, bits: int, input_grid: int) -> tuple[float, float]:
    largest = max(float(_weights(synapse).abs().max()) for synapse in layer.synapses)
    exponent = math.floor(math.log2(((1 << (bits - 1)) - 1) / largest)) if largest > 0 else 0
    unit, drive = 2.0**exponent, 0.0
    for synapse in layer.synapses:
        grid = input_grid if synapse.source == "input" else 1
        others = input_grid // grid if "input" in layer.sources else 1  # a branch beside an analog one shares its unit
        weights = _weights(synapse)
        weights.copy_((weights * unit).round() * others)
        drive += float(weights.abs().flatten(1).sum(1).max() if weights.ndim > 1 else weights.abs()) * grid
        if synapse.bias is not None:
            whole = unit * (input_grid if "input" in layer.sources else 1)
            synapse.bias.data.copy_((synapse.bias.data * whole).round())
            drive += float(synapse.bias.abs().max())
    return unit * (input_grid if "input" in layer.sources else 1), drive


def _weights(synapse: Synapse) -> Tensor:
    weighted = synapse.weighted
    return weighted.factor if isinstance(weighted, Scale) else weighted.weight.data
