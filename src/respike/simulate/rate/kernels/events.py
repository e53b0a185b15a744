"""The events backend: a fixed-point program in compiled, event-driven C (events.c), on all threads.

B images, T steps, P pixels, N neurons of a layer, padded. events.c is built twice: with 16-bit weights and 32-bit sums, and,
"wide", with 32-bit weights and 64-bit sums.
"""

import ctypes
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from ctypes import c_int32, c_int64, c_void_p
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from respike.convert.graph.nodes import Scale
from respike.convert.rate.rate_snn import Synapse
from respike.neurons.encode import image_keys
from respike.simulate.rate.fixed_point import largest_weight
from respike.simulate.rate.input import encoded_input, input_limits
from respike.simulate.rate.kernels.event_synapses import (
    SYNAPSE_ARRAYS,
    SYNAPSE_NUMBERS,
    WINDOWS,
    Source,
    padded,
    supported,
    wire,
)
from respike.simulate.rate.program import Program, ProgramLayer, new_tally, unplain
from respike.simulate.rate.settings import Settings
from respike.simulate.record import SpikeRecord
from respike.system.compiler import library

SOURCE = Path(__file__).with_name("events.c")
WIDE = {False: (), True: ("-DWIDE",)}  # flags of the compiler
MAX_NEURONS = 1 << 16  # of a layer: lists of spikes hold 16-bit numbers
GROUP = 32  # images that share a block of weights while it is in the cache
TASK = 4 * GROUP  # images per task of a thread
GRAIN = 1 << 15  # numbers up to which torch computes in the calling thread; its own threads would compete with these
log = logging.getLogger(__name__)


def is_selected(program: Program, settings: Settings) -> bool:
    """Whether the simulation runs here. Logs why not, if this backend was asked for or is the fastest that could run."""
    if settings.backend not in ("auto", "events"):
        return False
    reason = unsupported(program, settings)
    if reason is not None and (settings.backend == "events" or (program.fixed_point and _on_cpu(program))):
        _log_fallback(reason)
    return reason is None


def unsupported(program: Program, settings: Settings) -> str | None:
    """Why events.c cannot run the program, None if it can."""
    if not program.fixed_point:
        return "simulate.backend=events runs in fixed point only (simulate.weight_bits=2 to 24, neuron=integrate_fire)"
    if not _on_cpu(program):
        return "simulate.backend=events needs the network on a CPU"
    if program.input_shape.numel() > MAX_NEURONS:
        return f"simulate.backend=events takes images of up to {MAX_NEURONS:,} pixels"
    reason = unplain(program)
    if reason is not None:
        return f"simulate.backend=events does not run {reason}"
    shapes = {"input": program.input_shape} | {layer.name: layer.shape for layer in program.connections.layers}
    for layer in program.layers:
        if padded(layer)[0] > MAX_NEURONS:
            return f"simulate.backend=events takes layers of up to {MAX_NEURONS:,} neurons, and '{layer.name}' has more"
        for synapse in spiking_synapses(layer, settings):
            if not supported(synapse, layer, shapes[synapse.source]) or largest_weight(synapse) >= 1 << 31:
                return f"simulate.backend=events does not support the connections of layer '{layer.name}'"
    if library(SOURCE, *WIDE[needs_wide_sums(program, settings)]) is None:
        return "simulate.backend=events needs a C compiler (set CC)"
    return None


def _on_cpu(program: Program) -> bool:
    tensors = (tensor for layer in program.layers for tensor in layer.synapses.parameters())
    return all(tensor.device.type == "cpu" for tensor in tensors)


@cache
def _log_fallback(reason: str) -> None:
    log.warning("%s: the simulation runs in plain PyTorch, with the same result, slower", reason)


def spiking_synapses(layer: ProgramLayer, settings: Settings) -> list[Synapse]:
    """The synapses that carry spikes; those of an analog input give a constant drive instead."""
    return [s for s in layer.synapses.synapses if not (settings.encode.analog and s.source == "input")]


def needs_wide_sums(program: Program, settings: Settings) -> bool:
    """Whether weights need more than 16 bits, or sums more than 32."""
    for layer in program.layers:
        if layer.largest_potential(settings.steps) >= 1 << 31:
            return True
        for synapse in spiking_synapses(layer, settings):
            if not isinstance(synapse.weighted, Scale) and largest_weight(synapse) >= 1 << 15:
                return True
    return False


class _Synapse(ctypes.Structure):
    _fields_ = [(name, c_int32) for name in SYNAPSE_NUMBERS] + [(name, c_void_p) for name in SYNAPSE_ARRAYS]


def _layer_struct(sums: type) -> type[ctypes.Structure]:
    neuron = [("soft", c_int32), ("blocked", c_int32), ("threshold", sums), ("fires_at", sums)]
    sizes = [(name, c_int32) for name in ("neurons", "channels", "drop_first", "synapses")]
    fields = [
        *neuron,
        *sizes,
        ("synapse", ctypes.POINTER(_Synapse)),
        ("start", c_void_p),
        ("bias", c_void_p),
        ("bias_stride", c_int64),
    ]
    return type("_Layer", (ctypes.Structure,), {"_fields_": fields})


STRUCTS = {False: _layer_struct(c_int32), True: _layer_struct(c_int64)}


class EventProgram:
    """A program prepared for events.c; `run` simulates chunks of images on all threads."""

    def __init__(self, program: Program, settings: Settings):
        self.program, self.settings = program, settings
        self.wide = needs_wide_sums(program, settings)
        events_library = library(SOURCE, *WIDE[self.wide])
        assert events_library is not None  # callers ask `is_selected` first
        self.library = events_library
        self.library.events_scratch.restype = c_int64
        self.sums: type = np.int64 if self.wide else np.int32
        self.weights: type = np.int32 if self.wide else np.int16
        self.kept: list = []  # arrays that the structures point to
        self.scratch = threading.local()
        sources = {
            "input": Source(0, program.input_shape, np.arange(program.input_shape.numel()), program.input_shape.numel())
        }
        for order, layer in enumerate(program.layers, 1):
            size, width = padded(layer)
            places = size // width
            number_of = (np.arange(places) * width + np.arange(layer.shape[0])[:, None]).ravel()
            sources[layer.name] = Source(order, layer.shape, number_of, size)
        self.sources = sources
        self.layers = (STRUCTS[self.wide] * len(program.layers))(*map(self._layer, program.layers))
        last = sources[program.layers[-1].name]
        self.class_of = np.zeros(last.size, np.int32)
        self.class_of[last.number_of] = np.arange(len(last.number_of))
        self.levels = np.zeros(256, np.int32)  # the limit of each uint8 pixel
        if not settings.encode.analog:
            self.levels = input_limits(torch.arange(256, dtype=torch.uint8)[:, None], settings).numpy()[:, 0]

    def _layer(self, layer: ProgramLayer) -> ctypes.Structure:
        neuron, (neurons, channels), own = layer.fixed_point_neuron, padded(layer), self.sources[layer.name]
        read = spiking_synapses(layer, self.settings)
        synapses = (_Synapse * len(read))(*(self._synapse(synapse, layer) for synapse in read))
        bias = _aligned(np.zeros(neurons), self.sums)
        silent = {
            name: torch.zeros(1, *self.sources[name].shape, dtype=torch.float64) for name in layer.synapses.sources
        }
        bias[own.number_of] = layer.synapses.drive(silent).flatten().numpy()
        start = _aligned(np.full(neurons, np.iinfo(self.sums).min // 2), self.sums)  # padding never fires
        start[own.number_of] = neuron.start_potential
        self.kept += [synapses, start, bias]
        return STRUCTS[self.wide](
            neuron.reset == "subtract", min(neuron.blocked_steps, self.settings.steps), neuron.threshold, neuron.fires_at,
            neurons, channels, self._drops_first(layer), len(read), synapses, start.ctypes.data, bias.ctypes.data, 0,
        )  # fmt: skip

    def _drops_first(self, layer: ProgramLayer) -> bool:
        return self.settings.drop_first_output and layer is self.program.layers[-1]

    def _synapse(self, synapse: Synapse, layer: ProgramLayer) -> _Synapse:
        fan_out = layer.connections.fan_outs[list(layer.synapses.synapses).index(synapse)].flatten().numpy()
        alone = len(layer.synapses.synapses) == 1
        wiring = wire(synapse, layer, fan_out, self.sources[synapse.source], alone)
        tabled = wiring.numbers["kind"] == WINDOWS
        arrays = {
            name: _aligned(array, self.weights if name == "weights" and not tabled else np.int32)
            for name, array in wiring.arrays.items()
        }
        self.kept += arrays.values()
        return _Synapse(
            *(wiring.numbers.get(name, 0) for name in SYNAPSE_NUMBERS),
            *(arrays[name].ctypes.data if name in arrays else None for name in SYNAPSE_ARRAYS),
        )

    def run(self, images: Tensor, index: Tensor) -> SpikeRecord:
        """The record of images (B, C, H, W) with these numbers (B,)."""
        keys = torch.stack(image_keys(index, self.settings.seed), dim=1).numpy()
        predicted = np.zeros((self.settings.steps, len(images)), np.int16)
        counts = np.zeros((len(images), len(self.sources[self.program.layers[-1].name].number_of)), np.int32)

        def task(a: int) -> tuple[np.ndarray, np.ndarray]:
            b = min(a + TASK, len(images))
            return self._run_task(images[a:b], keys[a:b], predicted[:, a:b], counts[a:b])

        with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # ctypes releases the interpreter's lock
            sums = list(pool.map(task, range(0, len(images), TASK)))
        spikes, synops = (torch.from_numpy(sum(parts)) for parts in zip(*sums, strict=True))
        names = [layer.name for layer in self.program.layers]
        by_layer = dict(zip(["input", *names], spikes, strict=True))
        if self.settings.encode.analog:
            del by_layer["input"]
        return SpikeRecord(
            index=index.cpu(),
            predicted=torch.from_numpy(predicted),
            counts=torch.from_numpy(counts),
            spikes=by_layer,
            synops=dict(zip(names, synops, strict=True)),
            **new_tally(self.program, self.settings).constants(),
        )

    def _run_task(
        self, images: Tensor, keys: np.ndarray, predicted: np.ndarray, counts: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Fills predicted (T, B) and counts (B, classes) of these images; returns spikes (layers + 1, T), the input first, and
        synops (layers, T), int64."""
        steps, pixels, layers = self.settings.steps, images[0].numel(), len(self.layers)
        structs, limits, drives = self.layers, np.zeros((len(images), pixels), np.int32), None
        if self.settings.encode.analog:
            structs, drives = self._with_currents(images)
        elif images.dtype == torch.uint8:
            limits = self.levels[images.flatten(1).numpy()]
        else:
            parts = images.split(max(1, GRAIN // pixels))
            limits = np.concatenate([input_limits(part, self.settings).numpy() for part in parts])
        spikes, synops = np.zeros((layers + 1, steps), np.int64), np.zeros((layers, steps), np.int64)
        self.library.events_run(
            structs, layers, pixels, steps, len(images), GROUP, _at(limits), _at(keys), counts.shape[1],
            _at(self.class_of), _at(predicted), c_int64(predicted.strides[0] // predicted.itemsize), _at(counts),
            _at(spikes), _at(synops), _at(self._memory(pixels)),
        )  # fmt: skip
        del drives
        return spikes, synops

    def _memory(self, pixels: int) -> np.ndarray:
        """The scratch memory of this thread, allocated once."""
        if not hasattr(self.scratch, "memory"):
            size = self.library.events_scratch(self.layers, len(self.layers), pixels, self.settings.steps, GROUP)
            self.scratch.memory = np.empty(size, np.uint8)
        return self.scratch.memory

    def _with_currents(self, images: Tensor) -> tuple[ctypes.Array, list[np.ndarray]]:
        """The layers for a constant input: its drive, which differs for each image, replaces the bias."""
        current = encoded_input(self.program, self.settings, images, torch.arange(len(images)), torch.tensor([0]))[0]
        structs, drives = type(self.layers).from_buffer_copy(self.layers), []
        for struct, layer in zip(structs, self.program.layers, strict=True):
            if "input" not in layer.synapses.sources:
                continue
            own = self.sources[layer.name]
            sources = {
                name: current if name == "input" else current.new_zeros(len(images), *self.sources[name].shape)
                for name in layer.synapses.sources
            }
            drive: np.ndarray = np.zeros((len(images), own.size), self.sums)
            drive[:, own.number_of] = layer.drive(sources).flatten(1).numpy()
            drives.append(_aligned(drive, self.sums))
            struct.bias, struct.bias_stride = drives[-1].ctypes.data, own.size
        return structs, drives


def _at(array: np.ndarray) -> c_void_p:
    return c_void_p(array.ctypes.data)


def _aligned(array: np.ndarray, dtype: type) -> np.ndarray:
    """A contiguous copy that begins on a cache line."""
    size = array.size * np.dtype(dtype).itemsize
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    aligned: np.ndarray = memory[start : start + size].view(dtype).reshape(array.shape)
    aligned[...] = array
    return aligned
