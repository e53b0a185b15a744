"""Layers of a fixed-point program in the format of the Triton kernels. T steps, B images, N neurons of a layer.

A Linear or Conv2d on spikes becomes int8 digits of its weights, for exact products on tensor cores; a pool becomes its
window. PyTorch computes any other drive (several branches, groups, an analog input) in float64, which is exact in
fixed point, and a kernel runs the neurons.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional

from respike.convert.graph.nodes import Scale
from respike.simulate.rate.program import Program, ProgramLayer
from respike.simulate.rate.settings import Settings

SIZE = 512  # neurons of one program of an elementwise kernel
ROWS = 64  # pairs of image and place of one program of the product
MOST_DIGITS = 3
FAR = 1 << 20  # more than any side of an image
NO_GEOMETRY = {"height": 1, "width": 1, "out_width": 1, "stride_y": 1, "stride_x": 1, "pad_y": 0, "pad_x": 0}


@dataclass(frozen=True)
class Plan:
    """How a kernel runs one layer: its name, its tensors and numbers, its compile-time choices, and the size of a grid
    for B images. kind: "product", "pool" or "scan"."""

    kind: str
    grid: Callable[[int], tuple[int, ...]]
    tensors: tuple[Tensor, ...] = ()
    numbers: dict[str, int] = field(default_factory=dict)
    choices: dict[str, Any] = field(default_factory=dict)


def plan(program: Program, layer: ProgramLayer, settings: Settings) -> Plan:
    """The fastest plan that fits the layer."""
    synapse, *others = layer.synapses.synapses
    modules = [module for module in synapse if not isinstance(module, nn.Flatten)]
    analog = settings.encode.analog and "input" in layer.synapses.sources
    shape = _shape(program, synapse.source)
    if not others and not analog:
        if len(modules) == 1 and _multiplies(modules[0], shape):
            weights = digits(modules[0].weight.flatten(1).round().long())
            if len(weights) <= MOST_DIGITS:
                return _product(layer, modules[0], shape, weights, wide(layer, settings.steps))
        if len(modules) == 2 and isinstance(modules[0], nn.AvgPool2d) and isinstance(modules[1], Scale):
            return _pool(layer, modules[0], int(modules[1].factor), shape)
    return Plan("scan", lambda images: (-(-images * layer.shape.numel() // SIZE),), choices={"SIZE": SIZE})


def wide(layer: ProgramLayer, steps: int) -> bool:
    """Whether a potential of the layer could leave 32 bits."""
    return layer.largest_potential(steps) >= 1 << 31


def digits(weights: Tensor) -> Tensor:
    """Integers of any shape -> int8 (digits, ...) whose sum, each times 256 to the power of its place, is `weights`."""
    found: list[Tensor] = []
    rest = weights
    while not found or bool(rest.any()):
        low = (rest + 128) % 256 - 128  # in [-128, 127]
        found.append(low.to(torch.int8))
        rest = (rest - low) // 256
    return torch.stack(found)


def neuron_numbers(layer: ProgramLayer, settings: Settings, last: bool) -> dict[str, int]:
    """The integers of the neuron, which every layer kernel reads."""
    neuron = layer.fixed_point_neuron
    return {
        "steps": settings.steps,
        "threshold": neuron.threshold,
        "fires_at": neuron.fires_at,
        "start": neuron.start_potential,
        "blocked": min(neuron.blocked_steps, settings.steps),
        "dropped": int(settings.drop_first_output and last),
    }


def _shape(program: Program, source: str) -> torch.Size:
    return {"input": program.input_shape, **{layer.name: layer.shape for layer in program.layers}}[source]


def _multiplies(module: nn.Module, shape: torch.Size) -> TypeGuard[nn.Linear | nn.Conv2d]:
    """Whether the product kernel supports the module on a source of this shape."""
    if isinstance(module, nn.Linear):
        return module.in_features == shape.numel()  # not one that is applied to each row of an image
    plain = isinstance(module, nn.Conv2d) and module.groups == 1 and module.padding_mode == "zeros"
    return plain and not isinstance(module.padding, str)


def _product(
    layer: ProgramLayer, module: nn.Linear | nn.Conv2d, shape: torch.Size, weights: Tensor, is_wide: bool
) -> Plan:
    """weights: int8 (digits, outputs, taps); padded here, so that the kernel needs no mask for them."""
    outputs, taps = weights.shape[1:]
    most_outputs = (
        64 if is_wide or len(weights) > 2 else 128
    )  # as many as fit the registers, according to the compiled code
    block_outputs = min(most_outputs, max(16, _power_of_two(outputs)))
    block_taps = min(64, max(32, _power_of_two(taps)))
    padded_outputs, padded_taps = -(-outputs // block_outputs) * block_outputs, -(-taps // block_taps) * block_taps
    bias = torch.zeros(padded_outputs, dtype=torch.int64 if is_wide else torch.int32, device=weights.device)
    if module.bias is not None:
        bias[:outputs] = module.bias.round().to(bias.dtype)
    places, geometry, window = 1, NO_GEOMETRY, bias
    if isinstance(module, nn.Conv2d):
        places, geometry = layer.shape[1:].numel(), _geometry(module, shape, layer.shape)
        window = _window(module, shape, padded_taps).to(weights.device)
    numbers = {
        "maps": outputs, "padded_maps": padded_outputs, "padded_taps": padded_taps, "sources": shape.numel(),
        "places": places, **geometry,
    }  # fmt: skip
    choices = {
        "CONV": isinstance(module, nn.Conv2d), "DIGITS": len(weights), "ROWS": ROWS, "MAPS": block_outputs, "TAPS": block_taps,
        "num_warps": 8 if block_outputs >= 64 else 4, "num_stages": 3,
    }  # fmt: skip
    padded = functional.pad(weights, (0, padded_taps - taps, 0, padded_outputs - outputs)).contiguous()
    columns = padded_outputs // block_outputs
    return Plan("product", lambda n: (-(-n * places // ROWS), columns), (padded, bias, window), numbers, choices)


def _pool(layer: ProgramLayer, module: nn.AvgPool2d, unit: int, shape: torch.Size) -> Plan:
    kernel = dict(zip(("kernel_height", "kernel_width"), _pair(module.kernel_size), strict=True))
    numbers = {"unit": unit, "places": layer.shape[1:].numel(), "channels": shape[0]}
    numbers |= kernel | _geometry(module, shape, layer.shape)
    return Plan("pool", lambda n: (-(-n * layer.shape.numel() // SIZE),), (), numbers, {"SIZE": SIZE})


def _pair(value: int | tuple[int, ...] | str) -> tuple[int, ...]:
    assert not isinstance(value, str)  # `_multiplies` refuses padding given as a word
    return value if isinstance(value, tuple) else (value, value)


def _geometry(module: nn.Conv2d | nn.AvgPool2d, shape: torch.Size, out: torch.Size) -> dict[str, int]:
    """Positions of the windows on a source of shape (C, H, W)."""
    numbers = {"height": shape[1], "width": shape[2], "out_width": out[2]}
    numbers |= dict(zip(("stride_y", "stride_x"), _pair(module.stride), strict=True))
    return numbers | dict(zip(("pad_y", "pad_x"), _pair(module.padding), strict=True))


def _window(conv: nn.Conv2d, shape: torch.Size, padded_taps: int) -> Tensor:
    """y, x and source of each tap, relative to the window's corner: int32 (3, padded taps). Padding is far outside."""
    sides = [torch.arange(size) * step for size, step in zip(conv.kernel_size, conv.dilation, strict=True)]
    c, y, x = (axis.flatten() for axis in torch.meshgrid(torch.arange(shape[0]), *sides, indexing="ij"))
    taps = torch.stack([y, x, (c * shape[1] + y) * shape[2] + x]).int()
    return functional.pad(taps, (0, padded_taps - taps.shape[1]), value=-FAR).contiguous()


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()
