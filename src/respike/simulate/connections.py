"""Shapes and connections of a spiking network, found by passing one image of zeros or ones through it."""

import copy

import torch
from torch import Tensor, nn

from respike.convert.graph.nodes import Scale
from respike.convert.rate.rate_snn import RateSNN, SpikingLayer, Synapse
from respike.errors import InputError


def fixed_pools(snn: RateSNN, input_shape: torch.Size) -> RateSNN:
    """A copy whose adaptive pools are ordinary ones, now that shapes are known."""
    snn = copy.deepcopy(snn).eval()
    shapes = layer_shapes(snn, input_shape)
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
        raise InputError(
            f"an adaptive pool from {tuple(shape[-2:])} to {tuple(sizes)} has windows of unequal size; use nn.AvgPool2d"
        )
    return nn.AvgPool2d(tuple(side // size for size, side in zip(sizes, shape[-2:], strict=True)))


def _output_shape(module: nn.Module, shape: torch.Size) -> torch.Size:
    parameter = next(module.parameters(), torch.empty(0))
    return module(torch.zeros(1, *shape, dtype=parameter.dtype, device=parameter.device)).shape[1:]


def layer_shapes(snn: RateSNN, input_shape: torch.Size) -> dict[str, torch.Size]:
    """The shape of every layer, without the batch, for images of shape (C, H, W); the input's under "input".

    Raises InputError where images or branches do not fit.
    """
    shapes = {"input": torch.Size(input_shape)}
    for name, layer in snn.layers.items():
        try:
            ends = {_output_shape(synapse, shapes[synapse.source]) for synapse in layer.synapses}
        except RuntimeError as error:
            raise InputError(
                f"images of shape {tuple(input_shape)} do not fit the network at layer '{name}': {error}"
            ) from error
        if len(ends) > 1:
            raise InputError(
                f"branches of shapes {[tuple(end) for end in ends]} meet in layer '{name}'; they must be alike"
            )
        shapes[name] = ends.pop()
    return shapes


def sum_pool(pool: nn.AvgPool2d) -> tuple[nn.AvgPool2d, int]:
    """The same pool without its division, and what it divided by."""
    height, width = pool.kernel_size if isinstance(pool.kernel_size, tuple) else (pool.kernel_size,) * 2
    area = pool.divisor_override or height * width
    if (pool.padding not in (0, (0, 0)) and not pool.count_include_pad) or pool.ceil_mode:
        raise InputError(
            "average pools with ceil_mode, or padding that is not counted, divide by unequal areas; use plain ones"
        )
    return nn.AvgPool2d(pool.kernel_size, pool.stride, pool.padding, divisor_override=1), area


def connections(layer: SpikingLayer, shapes: dict[str, torch.Size]) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """Per synapse: how many connections each source neuron has into the layer (int64, source shape), and its MACs."""
    fan_outs = tuple(_fan_out(synapse, shapes[synapse.source]) for synapse in layer.synapses)
    return fan_outs, tuple(_macs(synapse, shapes[synapse.source]) for synapse in layer.synapses)


def _macs(synapse: Synapse, shape: torch.Size) -> int:
    """Connections of the weighted operation alone, counted on what reaches it."""
    for module in synapse:
        if isinstance(module, nn.Linear) and len(shape) == 1:
            return module.weight.numel()
        if isinstance(module, nn.Linear | nn.Conv2d):
            return int(_fan_out(Synapse(synapse.source, module), shape).sum())
        shape = _output_shape(module, shape)
    return 0


def _fan_out(synapse: Synapse, shape: torch.Size) -> Tensor:
    """The gradient of the summed output of the same connections, all of weight 1."""
    (*before, last) = synapse or [nn.Identity()]
    flat = all(isinstance(module, nn.Flatten) for module in before)
    if flat and isinstance(last, nn.Linear) and last.in_features == shape.numel():  # known without a gradient
        return torch.full(shape, last.out_features, device=last.weight.device)
    with torch.inference_mode(False), torch.enable_grad():
        unit = copy.deepcopy(synapse).double()
        for i, module in enumerate(unit):
            if isinstance(module, nn.AvgPool2d):
                unit[i] = sum_pool(module)[0]
            elif isinstance(module, Scale):
                unit[i] = nn.Identity()
            elif hasattr(module, "weight"):
                module.weight = nn.Parameter(torch.ones(module.weight.shape, dtype=torch.float64), requires_grad=False)
                module.bias = None
        ones = torch.ones(1, *shape, dtype=torch.float64, requires_grad=True)
        (reached,) = torch.autograd.grad(unit.cpu()(ones).sum(), ones)
    device = next(synapse.parameters(), torch.empty(0)).device
    return reached[0].round().long().to(device)
