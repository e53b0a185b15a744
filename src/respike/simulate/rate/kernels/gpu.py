"""Runs a fixed-point program on a GPU with the Triton kernels, layer by layer, all steps at once. T steps, B images.

Only spikes, of one byte each, pass from layer to layer; drives and potentials stay in registers.
"""

import logging
from contextlib import nullcontext
from functools import cache, reduce
from operator import add
from types import ModuleType

import torch
from torch import Tensor

from respike.layers.over_time import over_time
from respike.neurons.encode import image_keys
from respike.simulate.rate.input import encoded_input, input_limits
from respike.simulate.rate.kernels.gpu_layers import SIZE, Plan, neuron_numbers, plan, wide
from respike.simulate.rate.program import Program, ProgramLayer, new_tally
from respike.simulate.rate.settings import Settings
from respike.simulate.record import SpikeRecord

BUDGET = 1 << 31  # bytes of spikes of one chunk
MOST = 1 << 30  # neurons of a layer in one chunk: the kernels count them in 32 bits
log = logging.getLogger(__name__)


@cache
def triton_kernels() -> ModuleType | None:
    """The kernels' module, or None where Triton cannot be imported."""
    try:
        from respike.simulate.rate.kernels import triton_scan
    except ImportError:
        return None
    return triton_scan


def runnable(program: Program, settings: Settings) -> bool:
    """Whether the kernels support this: fixed point, on a CUDA device (or, with backend=triton, in Triton's interpreter)."""
    asked = settings.backend == "triton"
    if not asked and (settings.backend != "auto" or device_of(program).type != "cuda" or not program.fixed_point):
        return False
    reason = _missing(program)
    if reason is not None:
        _say(reason)
    return reason is None


def device_of(program: Program) -> torch.device:
    """Where the program's weights are."""
    tensors = (
        tensor for layer in program.layers for tensor in (*layer.synapses.parameters(), *layer.connections.fan_outs)
    )
    return next(tensors).device


def _missing(program: Program) -> str | None:
    if not program.fixed_point:
        return "simulate.backend=triton runs in fixed point only (simulate.weight_bits=2 to 24, neuron=integrate_fire)"
    kernels = triton_kernels()
    if kernels is None:
        return "Triton is not installed (pip install triton)"
    if device_of(program).type != "cuda" and not kernels.INTERPRETED:
        return "simulate.backend=triton needs the network on a CUDA device (trainer=gpu)"
    return None


@cache
def _say(reason: str) -> None:
    log.warning("%s: the simulation runs in plain PyTorch, with the same result, slower", reason)


class Fused:
    """A program made ready for the kernels; `run` simulates chunks of up to `chunk` images."""

    def __init__(self, program: Program, settings: Settings):
        self.program, self.settings, self.device = program, settings, device_of(program)
        kernels = triton_kernels()
        assert kernels is not None  # callers ask `runnable` first
        self.kernels = kernels
        self.plans = {layer.name: plan(program, layer, settings) for layer in program.layers}
        self.last_reader = {source: layer.name for layer in program.layers for source in layer.synapses.sources}

    @property
    def chunk(self) -> int:
        """Images whose spikes, and float64 drives where a layer needs them, fit the budget."""
        sizes = {"input": self.program.input_shape.numel()}
        sizes |= {layer.name: layer.shape.numel() for layer in self.program.layers}
        plain = [layer for layer in self.program.layers if self.plans[layer.name].kind == "scan"]
        floats = (sizes[layer.name] + sum(sizes[source] for source in layer.synapses.sources) for layer in plain)
        per_image = self.settings.steps * (sum(sizes.values()) + 16 * max(floats, default=0))
        return max(1, min(BUDGET // per_image, MOST // max(sizes.values())))

    def run(self, images: Tensor, index: Tensor) -> SpikeRecord:
        """Images (B, C, H, W), index (B,) through all layers."""
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
        keys = (key.contiguous() for key in image_keys(index, settings.seed))
        self.kernels.encode[grid](limits, *keys, fired, settings.steps, *limits.shape, SIZE=SIZE)
        return fired

    def _fire(self, layer: ProgramLayer, spikes: dict[str, Tensor], images: int) -> Tensor:
        """Spikes of a layer, int8 (T, B, ...N), from those of its sources."""
        settings, chosen = self.settings, self.plans[layer.name]
        fired = torch.empty(settings.steps, images, *layer.shape, dtype=torch.int8, device=self.device)
        numbers = neuron_numbers(layer, settings, last=layer is self.program.layers[-1])
        choices = {
            "ACC": self.kernels.tl.int64 if wide(layer, settings.steps) else self.kernels.tl.int32,
            "SUBTRACT": layer.fixed_point_neuron.reset == "subtract",
            "REFRACTORY": numbers["blocked"] > 0,
        }
        source, extent = self._driven(layer, spikes, chosen, images)
        kernel = getattr(self.kernels, chosen.kind)[chosen.grid(images)]
        kernel(source, *chosen.tensors, fired, **extent, **numbers, **chosen.numbers, **choices, **chosen.choices)
        return fired

    def _driven(
        self, layer: ProgramLayer, spikes: dict[str, Tensor], chosen: Plan, images: int
    ) -> tuple[Tensor, dict[str, int]]:
        """The input of the layer's kernel, and the numbers that give its extent."""
        if chosen.kind != "scan":
            return spikes[layer.synapses.sources[0]], {"images": images}
        with torch.backends.cudnn.flags(enabled=False):  # cuDNN may convolve by a Fourier transform, which is not exact
            drives = (over_time(synapse, spikes[synapse.source].double()) for synapse in layer.synapses.synapses)
            total = reduce(add, drives)  # (T or 1, B, ...N)
        items = images * layer.shape.numel()
        return total.contiguous(), {"items": items, "stride": items if len(total) > 1 else 0}
