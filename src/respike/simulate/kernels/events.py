"""Runs a grid program in the compiled, event-driven simulation (events.c): chains of Linear, Conv2d and pools.

Neurons are numbered with channels last, padded to LANES, as events.c wants them. S sources, N neurons of a layer.
"""

import ctypes
from concurrent.futures import ThreadPoolExecutor
from ctypes import c_int32, c_void_p
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from respike.convert.graph import Scale
from respike.neurons.encode import image_keys, spike_limits
from respike.simulate.kernels.compiler import library
from respike.simulate.program import Program, ProgramLayer
from respike.simulate.settings import Settings

LANES, GROUP = 16, 8
DENSE, CONV, POOL = range(3)
NUMBERS = (
    "kind",
    "sources",
    "neurons",
    "channels",
    "threshold",
    "fires_at",
    "start",
    "soft",
    "blocked",
    "drop_first",
    "unit",
)
ARRAYS = ("weights", "bias", "fan_out", "place", "map", "first", "target", "tap")


class _Struct(ctypes.Structure):
    _fields_ = [(name, c_int32) for name in NUMBERS] + [(name, c_void_p) for name in ARRAYS]


@dataclass
class Layer:
    """One layer as events.c reads it. numbers: by NUMBERS; arrays: by ARRAYS, absent ones are NULL; number_of: (N,)."""

    numbers: dict[str, int]
    arrays: dict[str, np.ndarray]
    number_of: np.ndarray


def runnable(program: Program, settings: Settings) -> bool:
    """Whether events.c can run this: integers of 16 bits that sum within 32, spikes as input, a chain it knows."""
    if settings.backend != "auto" or (settings.weight_bits or 99) > 16 or settings.encode.analog:
        return False
    sources = ["input", *(layer.name for layer in program.layers[:-1])]
    known = all(
        layer.synapses.sources == [source] and _kind(layer) is not None and _fits(layer, settings.steps)
        for layer, source in zip(program.layers, sources, strict=True)
    )
    device = next((parameter.device for parameter in program.layers[0].synapses.parameters()), torch.device("cpu"))
    return known and device.type == "cpu" and program.input_shape.numel() < 1 << 16 and library("events") is not None


def _fits(layer: ProgramLayer, steps: int) -> bool:
    padded = layer.shape.numel() // layer.shape[0] * (-(-layer.shape[0] // LANES) * LANES)
    return layer.largest_drive * (steps + 1) + layer.neuron.threshold < 1 << 31 and padded < 1 << 16


def _kind(layer: ProgramLayer) -> int | None:
    modules = [module for module in layer.synapses.synapses[0] if not isinstance(module, nn.Flatten)]
    if len(modules) == 1 and isinstance(modules[0], nn.Linear):
        return DENSE
    if len(modules) == 1 and isinstance(modules[0], nn.Conv2d):
        plain = (
            modules[0].groups == 1 and modules[0].padding_mode == "zeros" and not isinstance(modules[0].padding, str)
        )
        return CONV if plain else None
    if len(modules) == 2 and isinstance(modules[0], nn.AvgPool2d) and isinstance(modules[1], Scale):
        return POOL
    return None


def layers_of(program: Program, settings: Settings) -> list[Layer]:
    """The program's layers, numbered, with int16 weights."""
    layers, shape, number_of = [], program.input_shape, np.arange(program.input_shape.numel())
    sources = len(number_of)
    for layer in program.layers:
        kind = _kind(layer)
        channels, *sides = layer.shape
        width = -(-channels // LANES) * LANES
        places = int(np.prod(sides, dtype=int))
        own = (np.arange(places) * width + np.arange(channels)[:, None]).ravel()  # number of each (C, H, W) neuron
        neuron = layer.neuron
        numbers = {
            "kind": kind, "sources": sources, "neurons": places * width, "channels": width,
            "threshold": int(neuron.threshold), "fires_at": int(neuron.threshold) + neuron.strict,
            "start": int(neuron.start), "soft": -(neuron.reset == "subtract"), "blocked": neuron.blocked_steps,
            "drop_first": int(settings.drop_first_output and layer is program.layers[-1]), "unit": 0,
        }  # fmt: skip
        arrays = {"fan_out": _scattered(layer.fan_outs[0].flatten().numpy(), number_of, sources)}
        made = (_dense, _conv, _pool)[kind](layer, shape, number_of, sources, width)
        numbers["unit"] = made.pop("unit", 0)
        layers.append(Layer(numbers, arrays | made, own))
        shape, number_of, sources = layer.shape, own, places * width
    return layers


def _scattered(values: np.ndarray, number_of: np.ndarray, sources: int) -> np.ndarray:
    """Values of neurons in (C, H, W) order, put where their numbers are; int32 (S,)."""
    placed = np.zeros(sources, np.int32)
    placed[number_of] = values
    return placed


def _dense(layer: ProgramLayer, shape: torch.Size, number_of: np.ndarray, sources: int, width: int) -> dict:
    linear = layer.synapses.synapses[0].weighted
    weights = np.zeros((sources, width), np.int16)
    weights[number_of, : linear.out_features] = linear.weight.numpy().T
    bias = np.zeros(width, np.int32)
    if linear.bias is not None:
        bias[: linear.out_features] = linear.bias.numpy()
    return {"weights": weights, "bias": bias}


def _conv(layer: ProgramLayer, shape: torch.Size, number_of: np.ndarray, sources: int, width: int) -> dict:
    conv = layer.synapses.synapses[0].weighted
    maps, height, wide = shape
    taps = conv.kernel_size[0] * conv.kernel_size[1]
    weights = np.zeros((maps, taps, width), np.int16)
    weights[..., : conv.out_channels] = conv.weight.flatten(2).permute(1, 2, 0).numpy()
    bias = np.zeros(int(np.prod(layer.shape[1:])) * width, np.int32)
    if conv.bias is not None:
        bias.reshape(-1, width)[:, : conv.out_channels] = conv.bias.numpy()
    first, target, tap = _windows(
        (height, wide), layer.shape[1:], conv.kernel_size, conv.stride, conv.padding, conv.dilation
    )
    place, which = np.tile(np.arange(height * wide), maps), np.repeat(np.arange(maps) * taps * width, height * wide)
    return {
        "weights": weights, "bias": bias, "first": first, "target": target * width, "tap": tap * width,
        "place": _scattered(place, number_of, sources), "map": _scattered(which, number_of, sources),
    }  # fmt: skip


def _pool(layer: ProgramLayer, shape: torch.Size, number_of: np.ndarray, sources: int, width: int) -> dict:
    pool, scale = (module for module in layer.synapses.synapses[0] if not isinstance(module, nn.Flatten))
    pair = [
        value if isinstance(value, tuple) else (value, value) for value in (pool.kernel_size, pool.stride, pool.padding)
    ]
    first, target, _ = _windows(shape[1:], layer.shape[1:], pair[0], pair[1], pair[2], (1, 1))
    counts, places, maps = np.diff(first), shape[1] * shape[2], shape[0]
    # a source (map, place) reaches the targets of its place, in its own map
    order = np.concatenate([[0], np.tile(counts, maps).cumsum()])
    targets = (target[None, :] * width + np.arange(maps)[:, None]).ravel()
    return {
        "first": order, "target": targets, "unit": int(scale.factor),
        "place": _scattered(np.arange(maps * places), number_of, sources),
    }  # fmt: skip


def _windows(sides, outputs, kernel, stride, padding, dilation) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which outputs see each place, through which tap: first (places + 1,), target and tap (first[-1],)."""
    first, target, tap = [0], [], []
    for y, x in np.ndindex(*sides):
        for ky, kx in np.ndindex(*kernel):
            oy, y_left = divmod(y + padding[0] - ky * dilation[0], stride[0])
            ox, x_left = divmod(x + padding[1] - kx * dilation[1], stride[1])
            if not y_left and not x_left and 0 <= oy < outputs[0] and 0 <= ox < outputs[1]:
                target.append(oy * outputs[1] + ox)
                tap.append(ky * kernel[1] + kx)
        first.append(len(target))
    return np.array(first), np.array(target, dtype=np.int64), np.array(tap, dtype=np.int64)


class Events:
    """A program made ready for events.c; `run` simulates chunks of images on all threads."""

    def __init__(self, program: Program, settings: Settings):
        self.program, self.settings = program, settings
        self.layers = layers_of(program, settings)
        for layer in self.layers:
            kept = {
                name: np.ascontiguousarray(array, np.int16 if name == "weights" else np.int32)
                for name, array in layer.arrays.items()
            }
            layer.arrays = kept  # the structures below point into these
        self.structs = (_Struct * len(self.layers))(
            *(
                _Struct(
                    *layer.numbers.values(),
                    *(layer.arrays[name].ctypes.data if name in layer.arrays else None for name in ARRAYS),
                )
                for layer in self.layers
            )
        )
        self.class_of = np.zeros(self.layers[-1].numbers["neurons"], np.int32)
        self.class_of[self.layers[-1].number_of] = np.arange(len(self.layers[-1].number_of))

    def run(self, images: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Images (B, C, H, W), index (B,) -> predicted int16 (T, B), counts int32 (B, classes), spikes int64
        (layers + 1, T) with the input first, synops int64 (layers, T).
        """
        probability = self.settings.encode.probability(self.settings.pixels(images), self.settings.dt)
        limits = spike_limits(probability).flatten(1).contiguous()
        keys = torch.stack(image_keys(index, self.settings.seed), dim=1).contiguous()
        classes, steps = len(self.layers[-1].number_of), self.settings.steps
        predicted = torch.zeros(steps, len(images), dtype=torch.int16)
        counts = torch.zeros(len(images), classes, dtype=torch.int32)
        threads = torch.get_num_threads()
        cuts = [len(images) * k // threads for k in range(threads + 1)]

        def part(k: int) -> tuple[Tensor, Tensor]:
            return self._run_part(limits, keys, predicted, counts, cuts[k], cuts[k + 1])

        with ThreadPoolExecutor(threads) as pool:  # ctypes lets go of the interpreter's lock
            sums = list(pool.map(part, range(threads)))
        return predicted, counts, sum(s for s, _ in sums), sum(s for _, s in sums)

    def _run_part(
        self, limits: Tensor, keys: Tensor, predicted: Tensor, counts: Tensor, a: int, b: int
    ) -> tuple[Tensor, Tensor]:
        steps, pixels, layers = self.settings.steps, limits.shape[1], len(self.layers)
        spikes = torch.zeros(layers + 1, steps, dtype=torch.int64)
        synops = torch.zeros(layers, steps, dtype=torch.int64)
        kernel = library("events")
        kernel.events_scratch.restype = ctypes.c_int64
        scratch = np.empty(kernel.events_scratch(self.structs, layers, pixels, steps, GROUP), np.uint8)
        pointer = lambda tensor, offset=0: c_void_p(tensor.data_ptr() + offset * tensor.element_size())  # noqa: E731
        if b > a:
            kernel.events_run(
                self.structs, layers, pixels, steps, b - a, GROUP, pointer(limits, a * pixels), pointer(keys, 2 * a),
                counts.shape[1], c_void_p(self.class_of.ctypes.data), pointer(predicted, a),
                ctypes.c_int64(predicted.shape[1]), pointer(counts, a * counts.shape[1]), pointer(spikes), pointer(synops),
                c_void_p(scratch.ctypes.data),
            )  # fmt: skip
        return spikes, synops
