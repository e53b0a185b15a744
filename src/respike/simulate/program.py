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
    """One spiking layer: what drives it, its neuron, its shape (without batch), and per synapse two counts.

    fan_outs: connections of each source neuron (source shape); macs: multiply-accumulates of the weighted operation.
    """

    name: str
    synapses: SpikingLayer
    neuron: IntegrateFire
    shape: torch.Size
    fan_outs: tuple[Tensor, ...]
    macs: tuple[int, ...]


@dataclass(frozen=True)
class Program:
    """Layers in order, the dtype they compute in, the grid of analog inputs (None: any float) and the input's shape."""

    layers: tuple[ProgramLayer, ...]
    dtype: torch.dtype
    input_grid: int | None
    input_shape: torch.Size

    def macs(self, source: str | None = None) -> int:
        """Multiply-accumulates of one pass of the ReLU network per image; of the synapses of one source if given."""
        return sum(
            macs
            for layer in self.layers
            for name, macs in zip(layer.synapses.sources, layer.macs, strict=True)
            if source in (None, name)
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
        ProgramLayer(name, layer, neuron, shapes[name], *_connections(layer, shapes)) for name, layer in snn.layers.items()
    )
    weights = next(snn.parameters(), torch.empty(0))
    return Program(layers, weights.dtype, None, input_shape)


def compile_grid(
    snn: RateSNN, input_shape: torch.Size, neuron: IntegrateFire, bits: int, steps: int, largest_current: float | None
) -> Program:
    """The network rounded, layer by layer, to multiples of a power of two, scaled to integers held in float64.

    bits: signed bits of a weight, 2 to 24. largest_current: the largest input current, None for input spikes. A pool keeps its integer sum and multiplies its threshold by its area.
    Raises InputError where a sum over the steps could exceed 2^53.
    """
    if not 2 <= bits <= 24:
        raise InputError(f"simulate.weight_bits={bits}: 2 to 24 bits are offered, or null for float32")
    snn = _fixed_pools(snn, input_shape).double()
    shapes = _shapes(snn, input_shape)
    connections = {name: _connections(layer, shapes) for name, layer in snn.layers.items()}
    input_grid = 1 if largest_current is None else 1 << (bits - 1)
    layers = []
    for name, layer in snn.layers.items():
        unit, largest = _round_layer(layer, bits, input_grid, largest_current or 1.0)
        threshold = max(1, round(neuron.threshold * unit))
        if largest * steps >= EXACT:
            raise InputError(f"simulate.weight_bits={bits}: sums in layer '{name}' could exceed 2^53; take fewer bits")
        scaled = replace(neuron, threshold=float(threshold), start=float(round(neuron.start * unit)))
        layers.append(ProgramLayer(name, layer, scaled, shapes[name], *connections[name]))
    return Program(tuple(layers), torch.float64, None if largest_current is None else input_grid, input_shape)


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


def _connections(layer: SpikingLayer, shapes: dict[str, torch.Size]) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """Per synapse: how many connections each source neuron has into the layer (int64, source shape), and its MACs."""
    fan_outs = tuple(_fan_out(synapse, shapes[synapse.source]) for synapse in layer.synapses)
    return fan_outs, tuple(_macs(synapse, shapes[synapse.source]) for synapse in layer.synapses)


def _macs(synapse: Synapse, shape: torch.Size) -> int:
    """Connections of the weighted operation alone, counted on what reaches it."""
    for module in synapse:
        if isinstance(module, nn.Linear | nn.Conv2d):
            return int(_fan_out(Synapse(synapse.source, module), shape).sum())
        shape = _output_shape(module, shape)
    return 0


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


def _round_layer(layer: SpikingLayer, bits: int, input_grid: int, largest_input: float) -> tuple[float, float]:
    """Round a layer's synapses in place. Returns how many integer units make potential 1, and the largest drive."""
    lone = len(layer.synapses) == 1 and layer.synapses[0].weighted is None
    for synapse in layer.synapses:
        before, behind = _sum_pools(synapse)
        if lone:  # a pool of its own keeps its sum; its threshold is multiplied by the area
            return _round_pool(synapse, bits, before * behind, input_grid, largest_input)
        if synapse.weighted is None:
            synapse.append(Scale(1 / (before * behind)))
        else:
            synapse.rescale(1 / (before * behind), 1 / behind)
    return _round_weights(layer, bits, input_grid, largest_input)


def _sum_pools(synapse: Synapse) -> tuple[int, int]:
    """Let the synapse's pools sum instead of average. Returns the areas they divided by, before and behind the weights."""
    weighted, before, behind = synapse.weighted, 1, 1
    for i, module in enumerate(synapse):
        if module is weighted:
            before, behind = behind, 1
        elif isinstance(module, nn.AvgPool2d):
            synapse[i], area = _sum_pool(module)
            behind *= area
    return before, behind


def _round_pool(synapse: Synapse, bits: int, area: int, input_grid: int, largest_input: float) -> tuple[float, float]:
    resolution = 1 << (bits - 1)  # of the threshold: the pool's own weights are 1
    synapse.append(Scale(resolution))
    unit = float(resolution * area * (input_grid if synapse.source == "input" else 1))
    return unit, unit * (largest_input if synapse.source == "input" else 1)


def _round_weights(layer: SpikingLayer, bits: int, input_grid: int, largest_input: float) -> tuple[float, float]:
    largest = max(float(_weights(synapse).abs().max()) for synapse in layer.synapses)
    exponent = math.floor(math.log2(((1 << (bits - 1)) - 1) / largest)) if largest > 0 else 0
    unit, drive = 2.0**exponent, 0.0
    for synapse in layer.synapses:
        grid = input_grid if synapse.source == "input" else 1
        others = input_grid // grid if "input" in layer.sources else 1  # a branch beside an analog one shares its unit
        weights = _weights(synapse)
        weights.copy_((weights * unit).round() * others)
        reach = largest_input if synapse.source == "input" else 1.0
        drive += float(weights.abs().flatten(1).sum(1).max() if weights.ndim > 1 else weights.abs()) * grid * reach
        if synapse.bias is not None:
            whole = unit * (input_grid if "input" in layer.sources else 1)
            synapse.bias.data.copy_((synapse.bias.data * whole).round())
            drive += float(synapse.bias.abs().max())
    return unit * (input_grid if "input" in layer.sources else 1), drive


def _weights(synapse: Synapse) -> Tensor:
    weighted = synapse.weighted
    return weighted.factor if isinstance(weighted, Scale) else weighted.weight.data
