"""The Triton backend: a fixed-point program on a GPU, layer by layer, all steps at once. T steps, B images, N neurons.

Only spikes, one byte each, pass from layer to layer; drives and potentials stay in registers. A Linear or Conv2d layer that
reads spikes is an exact product of int8 digits on tensor cores, and a pool layer sums its window. The drive of any other layer
(several branches, groups, an analog input) is computed by PyTorch in float64, which is exact in fixed point, and a kernel runs
its neurons. Layers without neurons (max-pools, carried currents, a summed output) are left to PyTorch.
"""

import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional

from respike.convert.graph.modules import pair
from respike.convert.graph.nodes import Scale
from respike.layers.over_time import over_time
from respike.neurons.encode import image_keys
from respike.neurons.integrate_fire import FixedPointIntegrateFire
from respike.simulate.rate.input import encoded_input, input_limits
from respike.simulate.rate.program import Program, ProgramLayer, new_tally
from respike.simulate.rate.settings import Settings
from respike.simulate.record import SpikeRecord

BUDGET = 1 << 31  # bytes of spikes of one chunk
MAX_NEURONS = 1 << 30  # of a layer in one chunk: the kernels count them in 32 bits
SIZE = 512  # neurons per program of an elementwise kernel
ROWS = 64  # pairs of image and place per program of the product
MAX_DIGITS = 3
FAR_OUTSIDE = 1 << 20  # larger than any image
NO_GEOMETRY = {"height": 1, "width": 1, "out_width": 1, "stride_y": 1, "stride_x": 1, "pad_y": 0, "pad_x": 0}
log = logging.getLogger(__name__)


@cache
def triton_kernels() -> ModuleType | None:
    """The module of the kernels, or None if Triton cannot be imported."""
    try:
        from respike.simulate.rate.kernels import triton_kernels as kernels
    except ImportError:
        return None
    return kernels


def is_selected(program: Program, settings: Settings) -> bool:
    """Whether the simulation runs here: in fixed point on a CUDA device, or, if asked for, in Triton's interpreter.

    Logs why not, if this backend was asked for or a GPU is there.
    """
    asked = settings.backend == "triton"
    wanted = asked or (settings.backend == "auto" and program.device.type == "cuda" and program.fixed_point)
    if not wanted:
        return False
    reason = unsupported(program)
    if reason is not None:
        _log_fallback(reason)
    return reason is None


def unsupported(program: Program, device: str | None = None) -> str | None:
    """Why the kernels cannot run the program, None if they can. device: the type of its device, by default where it is."""
    if not program.fixed_point:
        return "simulate.backend=triton runs in fixed point only (simulate.weight_bits=2 to 24, neuron=integrate_fire)"
    kernels = triton_kernels()
    if kernels is None:
        return "Triton is not installed (pip install triton)"
    if (device or program.device.type) != "cuda" and not kernels.INTERPRETED:
        return "simulate.backend=triton needs the network on a CUDA device (trainer=gpu)"
    return None


@cache
def _log_fallback(reason: str) -> None:
    log.warning("%s: the simulation runs in plain PyTorch, with the same result, slower", reason)


class TritonProgram:
    """A program prepared for the kernels; `run` simulates chunks of up to `chunk` images."""

    def __init__(self, program: Program, settings: Settings):
        self.program, self.settings, self.device = program, settings, program.device
        kernels = triton_kernels()
        assert kernels is not None  # callers ask `is_selected` first
        self.kernels = kernels
        self.plans = {layer.name: plan(program, layer, settings) for layer in program.layers}
        self.last_reader = {source: layer.name for layer in program.layers for source in layer.synapses.sources}

    @property
    def chunk(self) -> int:
        """Images whose spikes, and float64 drives where a layer needs them, fit the budget."""
        sizes = {"input": self.program.input_shape.numel()}
        sizes |= {layer.name: layer.shape.numel() for layer in self.program.layers}
        scanned = [layer for layer in self.program.layers if self.plans[layer.name].kind in ("scan", "torch")]
        floats = (sizes[layer.name] + sum(sizes[source] for source in layer.synapses.sources) for layer in scanned)
        per_image = self.settings.steps * (sum(sizes.values()) + 16 * max(floats, default=0))
        return max(1, min(BUDGET // per_image, MAX_NEURONS // max(sizes.values())))

    def run(self, images: Tensor, index: Tensor) -> SpikeRecord:
        """The record of images (B, C, H, W) with these numbers (B,)."""
        tally = new_tally(self.program, self.settings)
        with torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext():
            spikes = {"input": self._encode(images.to(self.device), index.to(self.device))}
            tally.add("input", spikes["input"])
            for layer in self.program.layers:
                spikes[layer.name] = self._fire(layer, spikes, len(images))
                tally.add(layer.name, spikes[layer.name])
                for source in layer.synapses.sources:
                    if self.last_reader[source] == layer.name:
                        spikes.pop(source, None)
            return tally.record(index, spikes[self.program.layers[-1].name])

    def _encode(self, images: Tensor, index: Tensor) -> Tensor:
        """Spikes int8 (T, B, C, H, W), or currents in float64 (1, B, C, H, W)."""
        settings = self.settings
        if settings.encode.analog:
            return encoded_input(self.program, settings, images, index, torch.arange(settings.steps))
        limits = input_limits(images, settings)
        fired = torch.empty(settings.steps, *images.shape, dtype=torch.int8, device=self.device)
        grid = (-(-limits.numel() // SIZE),)
        first, second = image_keys(index, settings.seed)
        self.kernels.encode[grid](
            limits, first.contiguous(), second.contiguous(), fired, settings.steps, *limits.shape, SIZE=SIZE
        )
        return fired

    def _fire(self, layer: ProgramLayer, spikes: dict[str, Tensor], images: int) -> Tensor:
        """Spikes of a layer, int8 (T, B, ...N), or currents, float64 (T or 1, B, ...N), from those of its sources."""
        settings, how = self.settings, self.plans[layer.name]
        if how.kind == "torch":
            dropped = settings.drop_first_output and layer is self.program.layers[-1]
            values, _ = layer.scan(self._drive(layer, spikes), settings.steps, drop_first=dropped)
            return values if layer.analog else values.to(torch.int8)
        fired = torch.empty(settings.steps, images, *layer.shape, dtype=torch.int8, device=self.device)
        numbers = neuron_numbers(layer, settings, last=layer is self.program.layers[-1])
        choices = {
            "ACC": self.kernels.tl.int64 if needs_64_bits(layer, settings.steps) else self.kernels.tl.int32,
            "SUBTRACT": layer.fixed_point_neuron.reset == "subtract",
            "REFRACTORY": numbers["blocked"] > 0,
        }
        source, extent = self._source(layer, spikes, how, images)
        kernel = getattr(self.kernels, how.kind)[how.grid(images)]
        kernel(source, *how.tensors, fired, **extent, **numbers, **how.numbers, **choices, **how.choices)
        return fired

    def _source(
        self, layer: ProgramLayer, spikes: dict[str, Tensor], how: "Plan", images: int
    ) -> tuple[Tensor, dict[str, int]]:
        """What the layer's kernel reads (spikes, or the drive), and its size."""
        if how.kind != "scan":
            return spikes[layer.synapses.sources[0]], {"images": images}
        total = self._drive(layer, spikes)
        items = images * layer.shape.numel()
        return total.contiguous(), {"items": items, "stride": items if len(total) > 1 else 0}

    def _drive(self, layer: ProgramLayer, spikes: dict[str, Tensor]) -> Tensor:
        """The drive in float64 (T or 1, B, ...N), exact, by PyTorch."""
        with torch.backends.cudnn.flags(enabled=False):  # cuDNN may convolve by a Fourier transform, which is not exact
            return layer.drive({source: spikes[source].double() for source in layer.synapses.sources}, over_time)


@dataclass(frozen=True)
class Plan:
    """How a kernel runs one layer: its tensors and numbers, its compile-time choices, and the size of its grid for B images.

    kind: the kernel, "product", "pool" or "scan"; "torch" is a layer without neurons, which has no kernel.
    """

    kind: str
    grid: Callable[[int], tuple[int, ...]]
    tensors: tuple[Tensor, ...] = ()
    numbers: dict[str, int] = field(default_factory=dict)
    choices: dict[str, Any] = field(default_factory=dict)


def plan(program: Program, layer: ProgramLayer, settings: Settings) -> Plan:
    """The fastest plan that supports the layer."""
    if not isinstance(layer.neuron, FixedPointIntegrateFire):
        return Plan("torch", lambda images: ())
    synapse, *others = layer.synapses.synapses
    modules = [module for module in synapse if not isinstance(module, nn.Flatten)]
    analog = not program.analog.isdisjoint(layer.synapses.sources)
    shape = _shape(program, synapse.source)
    if not others and not analog and layer.synapses.pool is None:
        bias = layer.synapses.bias
        if len(modules) == 1 and _is_plain_product(modules[0], shape) and (bias is None or bias.ndim == 1):
            weights = digits(modules[0].weight.flatten(1).round().long())
            of_maps = isinstance(modules[0], nn.Linear) or len(layer.shape) == 3  # not flattened behind the convolution
            if len(weights) <= MAX_DIGITS and of_maps:
                return _product(layer, modules[0], shape, weights, needs_64_bits(layer, settings.steps))
        if (
            len(modules) == 2
            and isinstance(modules[0], nn.AvgPool2d)
            and isinstance(modules[1], Scale)
            and not modules[1].factor.ndim
            and bias is None
            and len(layer.shape) == 3
        ):
            return _pool(layer, modules[0], int(modules[1].factor), shape, program.device)
    neurons, device = layer.shape.numel(), program.device
    grid = _elementwise_grid(neurons)
    return Plan("scan", grid, (_starts(layer, device),), {"neurons": neurons}, {"SIZE": SIZE})


def _elementwise_grid(neurons: int) -> Callable[[int], tuple[int, ...]]:
    return lambda images: (-(-images * neurons // SIZE),)


def _starts(layer: ProgramLayer, device: torch.device) -> Tensor:
    """The potential of each neuron before the first step, int64 (N,), on the device."""
    own, start = layer.synapses.start, layer.fixed_point_neuron.start_potential
    if own is not None:
        return own.flatten().round().long() + start
    return torch.full((layer.shape.numel(),), start, dtype=torch.int64, device=device)


def needs_64_bits(layer: ProgramLayer, steps: int) -> bool:
    """Whether a potential of the layer could exceed 32 bits."""
    return layer.largest_potential(steps) >= 1 << 31


def digits(weights: Tensor) -> Tensor:
    """Integers of any shape -> int8 (digits, ...), in base 256, lowest first: weights = sum of digits[i] 256^i."""
    found: list[Tensor] = []
    rest = weights
    while not found or bool(rest.any()):
        low = (rest + 128) % 256 - 128  # in [-128, 127]
        found.append(low.to(torch.int8))
        rest = (rest - low) // 256
    return torch.stack(found)


def neuron_numbers(layer: ProgramLayer, settings: Settings, last: bool) -> dict[str, int]:
    """The neuron's integers, as every layer kernel takes them."""
    neuron = layer.fixed_point_neuron
    return {
        "steps": settings.steps,
        "threshold": neuron.threshold,
        "fires_at": neuron.fires_at,
        "blocked": min(neuron.blocked_steps, settings.steps),
        "dropped": int(settings.drop_first_output and last),
    }


def _shape(program: Program, source: str) -> torch.Size:
    return {"input": program.input_shape, **{layer.name: layer.shape for layer in program.layers}}[source]


def _is_plain_product(module: nn.Module, shape: torch.Size) -> TypeGuard[nn.Linear | nn.Conv2d]:
    """Whether the product kernel supports the module on a source of this shape."""
    if isinstance(module, nn.Linear):
        return module.in_features == shape.numel()  # not one that is applied to each row of an image
    plain = isinstance(module, nn.Conv2d) and module.groups == 1 and module.padding_mode == "zeros"
    return plain and not isinstance(module.padding, str)


def _product(
    layer: ProgramLayer, module: nn.Linear | nn.Conv2d, shape: torch.Size, weights: Tensor, wide: bool
) -> Plan:
    """weights: int8 (digits, outputs, taps); padded here, so that the kernel needs no mask for them."""
    outputs, taps = weights.shape[1:]
    most_outputs = 64 if wide or len(weights) > 2 else 128  # what fits the registers, read off the compiled code
    block_outputs = min(most_outputs, max(16, _power_of_two(outputs)))
    block_taps = min(64, max(32, _power_of_two(taps)))
    padded_outputs, padded_taps = -(-outputs // block_outputs) * block_outputs, -(-taps // block_taps) * block_taps
    bias = torch.zeros(padded_outputs, dtype=torch.int64 if wide else torch.int32, device=weights.device)
    if layer.synapses.bias is not None:
        bias[:outputs] = layer.synapses.bias.round().to(bias.dtype)
    places, geometry, window = 1, NO_GEOMETRY, bias  # the kernel reads no window of a Linear
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
    tensors = (padded, bias, window, _starts(layer, weights.device))
    return Plan("product", lambda n: (-(-n * places // ROWS), columns), tensors, numbers, choices)


def _pool(layer: ProgramLayer, module: nn.AvgPool2d, unit: int, shape: torch.Size, device: torch.device) -> Plan:
    kernel_height, kernel_width = pair(module.kernel_size)
    numbers = {"unit": unit, "places": layer.shape[1:].numel(), "channels": shape[0]}
    numbers |= {"kernel_height": kernel_height, "kernel_width": kernel_width}
    numbers |= _geometry(module, shape, layer.shape)
    return Plan("pool", _elementwise_grid(layer.shape.numel()), (_starts(layer, device),), numbers, {"SIZE": SIZE})


def _geometry(module: nn.Conv2d | nn.AvgPool2d, shape: torch.Size, out: torch.Size) -> dict[str, int]:
    """Where the windows lie on a source of shape (C, H, W)."""
    stride_y, stride_x = pair(module.stride)
    pad_y, pad_x = pair(module.padding)
    return {
        "height": shape[1], "width": shape[2], "out_width": out[2],
        "stride_y": stride_y, "stride_x": stride_x, "pad_y": pad_y, "pad_x": pad_x,
    }  # fmt: skip


def _window(conv: nn.Conv2d, shape: torch.Size, padded_taps: int) -> Tensor:
    """y, x and source of each tap, relative to the window's corner: int32 (3, padded taps). Padding lies far outside."""
    sides = [torch.arange(size) * step for size, step in zip(conv.kernel_size, conv.dilation, strict=True)]
    c, y, x = (axis.flatten() for axis in torch.meshgrid(torch.arange(shape[0]), *sides, indexing="ij"))
    taps = torch.stack([y, x, (c * shape[1] + y) * shape[2] + x]).int()
    return functional.pad(taps, (0, padded_taps - taps.shape[1]), value=-FAR_OUTSIDE).contiguous()


def _power_of_two(number: int) -> int:
    """The smallest power of two that is not below the number."""
    return 1 << (number - 1).bit_length()
