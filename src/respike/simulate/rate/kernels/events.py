"""The events backend: a fixed-point program, layer by layer, in compiled, event-driven C (events.c), on all threads.

B images, T steps, P pixels, N neurons of a layer, padded. events.c is built twice: with 16-bit weights and 32-bit sums, and,
"wide", with 32-bit weights and 64-bit sums. Each layer is run by the build that it needs. A layer whose potentials could pass
32 bits, though no step's drive can, is run by the narrow build under a guard, and again by the wide one where they do.

Images are simulated in groups, and, where the lists of spikes of all T steps would be large, in chunks of steps with carried
state. Layers that events.c does not run (carried currents) are computed by plain torch in between.
"""

import ctypes
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ctypes import POINTER, byref, c_int32, c_int64, c_void_p
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from respike.layers.over_time import over_time
from respike.neurons.encode import image_keys
from respike.neurons.integrate_fire import FixedPointIntegrateFire
from respike.simulate.rate.input import encoded_input, input_limits
from respike.simulate.rate.kernels.event_synapses import (
    LANES,
    SYNAPSE_ARRAYS,
    SYNAPSE_NUMBERS,
    Neurons,
    Wiring,
    wire,
    wire_windows,
)
from respike.simulate.rate.program import Program, ProgramLayer, new_tally
from respike.simulate.rate.settings import Settings
from respike.simulate.rate.units import MaxPool, SummedCurrent
from respike.simulate.record import SpikeRecord, predict
from respike.system.compiler import Source, library

SOURCE = Source.read(Path(__file__).with_name("events.c"))
FLAGS = {False: (), True: ("-DWIDE",)}  # of the compiler, by whether the sums are wide
GROUP = 32  # images that share a block of weights while it is in the cache
BUDGET = 1 << 25  # bytes of lists of spikes of one thread, where a chunk of LEAST steps of one image does not need more
LEAST = 8  # steps of a chunk
MEMORY = 3 << 29  # bytes of all threads; fewer threads run where they would need more
GUARD = 1 << 30
NO_COMPILER = "simulate.backend=events needs a C compiler (set CC)"
FIRES, COUNTING_MAX, GATED_MAX, SUMMED_CURRENT = range(4)
log = logging.getLogger(__name__)


def is_selected(program: Program, settings: Settings) -> bool:
    """Whether the simulation runs here. Logs why not, if this backend was asked for or is the fastest that could run."""
    if settings.backend not in ("auto", "events"):
        return False
    reason = unsupported(program, settings)
    told = reason in (None, NO_COMPILER)  # by the compiler's own line
    if not told and (settings.backend == "events" or (program.fixed_point and _on_cpu(program))):
        _log_fallback(str(reason))
    return reason is None


def unsupported(program: Program, settings: Settings) -> str | None:
    """Why events.c cannot run the program, None if it can."""
    if not program.fixed_point:
        return "simulate.backend=events runs in fixed point only (simulate.weight_bits=2 to 24, neuron=integrate_fire)"
    if not _on_cpu(program):
        return "simulate.backend=events needs the network on a CPU"
    output = program.layers[-1]
    if output.analog and not isinstance(output.neuron, SummedCurrent):
        return "simulate.backend=events does not read the output from carried currents"
    for layer in program.layers:
        if isinstance(layer.neuron, MaxPool) and not layer.analog and not _pools_single_spikes(program, layer):
            return f"simulate.backend=events does not run the max-pool of sums of spikes in layer '{layer.name}'"
    if library(SOURCE) is None:
        return NO_COMPILER
    return None


def _on_cpu(program: Program) -> bool:
    tensors = (tensor for layer in program.layers for tensor in layer.synapses.parameters())
    return all(tensor.device.type == "cpu" for tensor in tensors)


def _pools_single_spikes(program: Program, layer: ProgramLayer) -> bool:
    """Whether every input of a max-pool is the spikes of one neuron, or none."""
    shapes = {"input": program.input_shape} | {other.name: other.shape for other in program.layers}
    ones = {name: torch.ones(1, *shapes[name], dtype=torch.float64) for name in layer.synapses.sources}
    return bool(torch.isin(layer.drive(ones), torch.tensor([0.0, 1.0], dtype=torch.float64)).all())


def plain_reason(program: Program, layer: ProgramLayer) -> str | None:
    """Why plain torch computes a layer between the others, None if it does not."""
    if not isinstance(layer.neuron, FixedPointIntegrateFire | MaxPool | SummedCurrent):
        return "currents handed on"
    if layer.synapses.pool is not None and not isinstance(layer.neuron, MaxPool):
        return "currents pooled"
    if not (program.analog - {"input"}).isdisjoint(layer.synapses.sources):
        return "carried currents read"
    if isinstance(layer.neuron, MaxPool) and (layer.analog or not isinstance(layer.neuron.pool, nn.MaxPool2d)):
        return "currents pooled" if layer.analog else "a max-pool with signs"
    return None


@cache
def _log_fallback(reason: str) -> None:
    log.warning("%s: the simulation runs in plain PyTorch, with the same result, slower", reason)


@cache
def _log_plain(layers: str) -> None:
    log.warning("plain PyTorch computes %s, compiled events the other layers", layers)


class _Synapse(ctypes.Structure):
    _fields_ = [(name, c_int32) for name in SYNAPSE_NUMBERS] + [(name, c_void_p) for name in SYNAPSE_ARRAYS]


def _layer_struct(sums: type) -> type[ctypes.Structure]:
    fields = [
        *((name, c_int32) for name in ("soft", "blocked")),
        *((name, sums) for name in ("threshold", "fires_at", "guard")),
        *((name, c_int32) for name in ("unit", "neurons", "channels", "drop_first", "synapses", "inputs")),
        ("synapse", POINTER(_Synapse)),
        ("start", c_void_p),
        ("bias", c_void_p),
        ("bias_stride", c_int64),
    ]
    return type("_Layer", (ctypes.Structure,), {"_fields_": fields})


class _Lists(ctypes.Structure):
    _fields_ = [("spikes", c_void_p), ("count", c_void_p), ("room", c_int64), ("steps", c_int32), ("blocks", c_int32)]


class _Chunk(ctypes.Structure):
    _fields_ = [
        *((name, c_int32) for name in ("images", "first", "steps")),
        *((name, c_void_p) for name in ("lists", "out", "state")),
        ("stride", c_int64),
        ("scratch", c_void_p),
    ]


STRUCTS = {False: _layer_struct(c_int32), True: _layer_struct(c_int64)}
SUMS: dict[bool, type] = {False: np.int32, True: np.int64}
WEIGHTS: dict[bool, type] = {False: np.int16, True: np.int32}


@cache
def _library(wide: bool) -> ctypes.CDLL:
    built = library(SOURCE, *FLAGS[wide])
    assert built is not None  # callers ask `is_selected` first
    for name, arguments in {
        "events_encode": (c_void_p, c_void_p, c_int32, c_int32, c_int32, c_int32, c_void_p, c_void_p),
        "events_tally": (c_void_p, c_int32, c_int32, c_void_p),
        "events_operations": (c_void_p, c_void_p, c_int32, c_int32, c_int32, c_void_p),
        "events_predict": (c_void_p, c_int32, c_int32, c_int32, c_int32, c_void_p, c_void_p, c_int64, c_void_p),
        "events_unpack": (c_void_p, c_int32, c_int32, c_int64, c_int64, c_void_p),
        "events_pack": (c_void_p, c_int32, c_int32, c_int64, c_int64, c_void_p),
        "events_count": (c_void_p, c_int32, c_int32, c_int64, c_void_p),
        "events_layer": (c_void_p, c_void_p, c_int32, c_int32, c_void_p, c_void_p, c_int64, c_void_p),
        "events_scratch": (c_void_p, c_int32),
        "events_state": (c_void_p,),
    }.items():
        getattr(built, name).argtypes = arguments
    built.events_scratch.restype = built.events_state.restype = c_int64
    return built


class CompiledLayer:
    """A layer as events.c runs it.

    wide: its sums have 64 bits. guarded: they have 32, which the bound on its potentials passes, so that every run is checked.
    """

    def __init__(self, layer: ProgramLayer, wirings: list[Wiring], settings: Settings, own: Neurons, drops_first: bool):
        self.layer, self.wirings, self.settings, self.own, self.drops_first = layer, wirings, settings, own, drops_first
        neuron = layer.neuron
        rest = neuron.fires_at + layer.largest_start if isinstance(neuron, FixedPointIntegrateFire) else 0
        narrow = all(wiring.largest < 1 << 15 for wiring in wirings if wiring.has_weights_of_sums)
        fits = layer.largest_potential(settings.steps) < 1 << 31 or isinstance(neuron, MaxPool)
        self.guarded = narrow and not fits and layer.largest_drive < GUARD and rest < GUARD
        self.wide = not (narrow and (fits or self.guarded))
        self.kept: list[Any] = []  # what the structures point to
        self.lock = threading.Lock()
        self.structs: dict[bool, ctypes.Structure] = {}
        self.struct(self.wide)

    def struct(self, wide: bool) -> ctypes.Structure:
        """The layer for one of the two builds, made when it is first needed."""
        with self.lock:
            if wide not in self.structs:
                self.structs[wide] = self._struct(wide)
            return self.structs[wide]

    def _struct(self, wide: bool) -> ctypes.Structure:
        layer, own, sums = self.layer, self.own, SUMS[wide]
        neuron, unit = layer.neuron, FIRES
        bias: np.ndarray = np.zeros(own.size, sums)
        start: np.ndarray = np.full(own.size, np.iinfo(sums).min // 2, sums)  # padding never fires
        constants = dict.fromkeys(("soft", "blocked", "threshold", "fires_at"), 0)
        constants["guard"] = GUARD if self.guarded and not wide else 0
        if isinstance(neuron, FixedPointIntegrateFire):
            constants |= {"soft": neuron.reset == "subtract", "blocked": min(neuron.blocked_steps, self.settings.steps)}
            constants |= {"threshold": neuron.threshold, "fires_at": neuron.fires_at}
            own_start = layer.synapses.start
            start[own.number_of] = neuron.start_potential + (0 if own_start is None else own_start.flatten().numpy())
        elif isinstance(neuron, MaxPool):
            unit = GATED_MAX if neuron.rule == "gate" else COUNTING_MAX
        else:
            unit = SUMMED_CURRENT
        if unit in (FIRES, SUMMED_CURRENT) and layer.synapses.bias is not None:
            total = torch.zeros(1, *layer.shape, dtype=torch.float64)
            bias[own.number_of] = layer.synapses.driven(total).flatten().numpy()
        bias, start = aligned(bias, sums), aligned(start, sums)
        synapses = (_Synapse * len(self.wirings))(*(self._synapse(wiring, wide) for wiring in self.wirings))
        self.kept += [bias, start, synapses]
        inputs = len(self.wirings[0].arrays["first"]) - 1 if isinstance(neuron, MaxPool) else 0
        return STRUCTS[wide](
            *constants.values(), unit, own.size, own.width, self.drops_first, len(synapses), inputs, synapses,
            start.ctypes.data, bias.ctypes.data, 0,
        )  # fmt: skip

    def _synapse(self, wiring: Wiring, wide: bool) -> _Synapse:
        arrays = {
            name: aligned(array, WEIGHTS[wide] if name == "weights" and wiring.has_weights_of_sums else np.int32)
            for name, array in wiring.arrays.items()
        }
        self.kept += arrays.values()
        return _Synapse(
            *(wiring.numbers.get(name, 0) for name in SYNAPSE_NUMBERS),
            *(arrays[name].ctypes.data if name in arrays else None for name in SYNAPSE_ARRAYS),
        )


class EventProgram:
    """A program prepared for events.c; `run` simulates chunks of images on all threads.

    layers: by name, as events.c runs them; plain: by name, why plain torch computes the others. group: images at a time of a
    thread; chunk: steps at a time.
    """

    def __init__(self, program: Program, settings: Settings):
        self.program, self.settings = program, settings
        self.neurons = {"input": Neurons.of_input(program.input_shape)}
        for layer in program.layers:
            sources = zip(layer.connections.sources, layer.connections.fan_outs, strict=True)
            self.neurons |= {name: Neurons.of_layer(reach.shape) for name, reach in sources if name not in self.neurons}
            self.neurons[layer.name] = Neurons.of_layer(layer.shape)
        self.layers: dict[str, CompiledLayer] = {}
        self.plain: dict[str, str] = {}
        for layer in program.layers:
            made = self._compiled(layer)
            if isinstance(made, str):
                self.plain[layer.name] = made
            else:
                self.layers[layer.name] = made
        if self.plain:
            _log_plain(self.plain_layers)
        self.fan_outs = {
            (layer.name, i): aligned(self.neurons[source].scattered(fan_out.flatten().numpy()), np.int32)
            for layer in program.layers
            for i, (source, fan_out) in enumerate(
                zip(layer.connections.sources, layer.connections.fan_outs, strict=True)
            )
        }
        self.order = {name: self._order(neurons) for name, neurons in self.neurons.items()}
        self.number = {name: aligned(neurons.number_of, np.int32) for name, neurons in self.neurons.items()}
        self.levels = np.zeros(256, np.int32)  # the limit of each uint8 pixel
        if not settings.encode.analog:
            self.levels = input_limits(torch.arange(256, dtype=torch.uint8)[:, None], settings).numpy()[:, 0]
        self.group, self.chunk = self._split()
        self.free: list[_Worker] = []
        self.library = _library(False)

    @property
    def plain_layers(self) -> str:
        """The layers that plain torch computes, with the reason."""
        names: dict[str, list[str]] = {}
        for name, reason in self.plain.items():
            names.setdefault(reason, []).append(f"'{name}'")
        return "; ".join(f"{', '.join(layers)} ({reason})" for reason, layers in names.items())

    def _compiled(self, layer: ProgramLayer) -> CompiledLayer | str:
        """The layer as events.c runs it, or why it cannot."""
        reason = plain_reason(self.program, layer)
        if reason is not None:
            return reason
        own, last = self.neurons[layer.name], layer is self.program.layers[-1]
        sources = [self.neurons[name] for name in layer.synapses.sources]
        if isinstance(layer.neuron, MaxPool):
            assert isinstance(layer.neuron.pool, nn.MaxPool2d)
            wired: list[Wiring] | None = wire_windows(layer, layer.neuron.pool, sources, own)
        else:
            synapses = list(layer.synapses.synapses)
            made = [
                wire(synapse, layer, fan_out.flatten().numpy(), source, own, len(synapses) == 1)
                for synapse, fan_out, source in zip(synapses, layer.connections.fan_outs, sources, strict=True)
                if not (self.settings.encode.analog and synapse.source == "input")
            ]
            wired = [wiring for wiring in made if wiring is not None]
            wired = wired if len(wired) == len(made) else None
        if wired is None:
            return "weights of more than 32 bits, or too many connections for a list"
        return CompiledLayer(layer, wired, self.settings, own, self.settings.drop_first_output and last)

    def _order(self, neurons: Neurons) -> np.ndarray:
        """By number, the flat index of a neuron."""
        return aligned(neurons.scattered(np.arange(len(neurons.number_of))), np.int32)

    def spiking_sources(self, layer: ProgramLayer) -> list[str]:
        """The sources of the synapses that carry spikes."""
        return [source for source in layer.synapses.sources if source not in self.program.analog]

    def _split(self) -> tuple[int, int]:
        """(images at a time of a thread, steps at a time)."""
        steps = self.settings.steps
        per_step = max(1, _Plan(self, 1, 1).bytes)
        if per_step * steps <= BUDGET:
            return min(GROUP, BUDGET // (per_step * steps)), steps
        return 1, min(steps, max(LEAST, BUDGET // per_step))

    def _memory(self) -> int:
        """Bytes that one thread needs: lists, the states of all layers if they are carried, drives by constant currents."""
        sizes = {name: 16 * layer.own.size for name, layer in self.layers.items()}
        states = (
            max(sizes.values(), default=0) if self.chunk >= self.settings.steps else self.group * sum(sizes.values())
        )
        driven = (layer for layer in self.program.layers if "input" in layer.synapses.sources)
        drives = self.group * 24 * sum(layer.shape.numel() for layer in driven) if self.settings.encode.analog else 0
        return _Plan(self, self.group, self.chunk).bytes + states + drives

    def run(self, images: Tensor, index: Tensor) -> SpikeRecord:
        """The record of images (B, C, H, W) with these numbers (B,)."""
        keys = torch.stack(image_keys(index, self.settings.seed), dim=1).contiguous().numpy()
        predicted = np.zeros((self.settings.steps, len(images)), np.int16)
        classes = self.program.layers[-1].shape.numel()
        counts = np.zeros((len(images), classes), np.float64 if self.program.read_current else np.int32)

        def run(worker: "_Worker", group: slice) -> tuple[np.ndarray, np.ndarray]:
            return worker.run(images[group], keys[group], predicted[:, group], counts[group])

        sums = self._in_groups(run, len(images))
        spikes, synops = (torch.from_numpy(sum(parts)) for parts in zip(*sums, strict=True))
        names = [layer.name for layer in self.program.layers]
        by_layer = dict(zip(["input", *names], spikes, strict=True))
        return SpikeRecord(
            index=index.cpu(),
            predicted=torch.from_numpy(predicted),
            counts=torch.from_numpy(counts),
            spikes={name: count for name, count in by_layer.items() if name not in self.program.analog},
            synops=dict(zip(names, synops, strict=True)),
            **new_tally(self.program, self.settings).constants(),
        )

    def _in_groups(self, run: Callable[["_Worker", slice], Any], images: int) -> list[Any]:
        """run(worker, group) for every group of so many images, on all threads."""
        threads = torch.get_num_threads()
        size = min(self.group, -(-images // threads))

        def task(a: int) -> Any:
            try:
                worker = self.free.pop()
            except IndexError:
                worker = _Worker(self)
            with torch.inference_mode():
                found = run(worker, slice(a, min(a + size, images)))
            self.free.append(worker)
            return found

        workers = max(1, min(threads, MEMORY // self._memory()))
        with _one_thread_each(workers), ThreadPoolExecutor(workers) as pool:  # ctypes releases the interpreter's lock
            return list(pool.map(task, range(0, images, size)))


class LayerAlone(EventProgram):
    """One layer of neurons, not the output, whose sources' spikes are given.

    Spikes are held by number, uint8 (T, B, S), see `Neurons`; an input of constant currents as (1, B, C, H, W).
    """

    def __init__(self, frame: Program, layer: ProgramLayer, settings: Settings):
        super().__init__(replace(frame, layers=(layer,)), replace(settings, drop_first_output=False))

    @staticmethod
    def is_supported(frame: Program, layer: ProgramLayer, settings: Settings) -> bool:
        """Whether events.c runs the layer, in a program like `frame`, whose layers may be missing."""
        program = replace(frame, layers=(layer,))
        return (
            settings.backend in ("auto", "events")
            and isinstance(layer.neuron, FixedPointIntegrateFire)
            and not layer.grids
            and unsupported(program, settings) is None
            and plain_reason(program, layer) is None
        )

    def run_layer(self, values: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The layer's spikes (T, B, S), and their counts, int32 (B, ...N), from the values of its sources."""
        (layer,) = self.program.layers
        neurons, images = self.neurons[layer.name], next(iter(values.values())).shape[1]
        spikes = torch.empty(self.settings.steps, images, neurons.size, dtype=torch.uint8)
        counts = torch.zeros(images, neurons.size, dtype=torch.int32)

        def run(worker: "_Worker", group: slice) -> None:
            read = {source: value[:, group] for source, value in values.items()}
            worker.run_layer(layer, read, spikes[:, group], counts[group])

        self._in_groups(run, images)
        return spikes, neurons.maps(counts)


@contextmanager
def _one_thread_each(workers: int) -> Iterator[None]:
    """Within, torch computes in the calling thread: its own threads would compete with the workers."""
    before = torch.get_num_threads()
    if workers > 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if workers > 1:
            torch.set_num_threads(before)


class _Plan:
    """Where a thread holds what it needs for groups of `images` images and chunks of `steps` steps.

    lists: by name, (offset of the spikes, offset of the counts, room per step, blocks); a list's place is taken again behind
    its last reader. bytes: of the lists, and of the values of the layers that plain torch computes.
    """

    def __init__(self, program: EventProgram, images: int, steps: int):
        layers = program.program.layers
        last_reader = {name: -1 for name in program.neurons}
        for i, layer in enumerate(layers):
            last_reader |= {source: i for source in layer.synapses.sources} | {layer.name: i}
        last_reader[layers[-1].name] = len(layers)
        self.lists: dict[str, tuple[int, int, int, int]] = {}
        taken: list[tuple[int, int, int]] = []  # (begin, end, last reader)
        self.size = 0
        made_by = {layer.name: i for i, layer in enumerate(layers)}
        for name in program.neurons:
            if name in program.program.analog:
                continue
            i = made_by.get(name, -1)
            room, blocks = program.neurons[name].size + LANES, -(-program.neurons[name].size >> 16)
            spikes, counts = _lines(images * steps * room * 2), _lines(images * steps * blocks * 4)
            taken = sorted(block for block in taken if block[2] >= i)
            begin = 0
            for first, end, _ in taken:
                if first - begin >= spikes + counts:
                    break
                begin = max(begin, end)
            taken.append((begin, begin + spikes + counts, last_reader[name]))
            self.lists[name] = begin, begin + spikes, room, blocks
            self.size = max(self.size, begin + spikes + counts)
        dense = [
            sum(program.neurons[name].size for name in layer.synapses.sources) + 4 * layer.shape.numel()
            for layer in layers
            if layer.name in program.plain
        ]
        self.bytes = self.size + 8 * images * steps * max(dense, default=0)


class _Worker:
    """The memory of one thread, and the simulation of a group of images in it."""

    def __init__(self, program: EventProgram):
        self.program, self.steps = program, program.settings.steps
        self.library = program.library
        plan = _Plan(program, program.group, program.chunk)
        self.memory = aligned(np.zeros(0, np.uint8), np.uint8, plan.size)
        base = self.memory.ctypes.data
        self.lists = {
            name: _Lists(base + spikes, base + counts, room, program.chunk, blocks)
            for name, (spikes, counts, room, blocks) in plan.lists.items()
        }
        self.whole = program.chunk >= self.steps
        scratch = [1 << 20, 6 << 16]
        self.state_bytes: dict[tuple[str, bool], int] = {}
        self.states: dict[tuple[str, bool], np.ndarray] = {}
        self.inputs = {}
        for name, layer in program.layers.items():
            read = program.spiking_sources(layer.layer)
            self.inputs[name] = (_Lists * len(read))(*(self.lists[source] for source in read))
            scratch += (
                [_library(False).events_scratch(byref(layer.struct(layer.wide)), program.chunk)]
                if not layer.wide
                else []
            )
            scratch += [_library(True).events_scratch(byref(layer.struct(True)), program.chunk)] if layer.wide else []
            scratch.append(layer.own.size * 8)
        self.scratch = aligned(np.zeros(0, np.uint8), np.uint8, max(scratch))
        self.shared = np.zeros(0, np.uint8)

    def run(
        self, images: Tensor, keys: np.ndarray, predicted: np.ndarray, counts: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Fills predicted (T, B) and counts (B, classes) of these images; returns spikes (layers + 1, T), the input first, and
        synops (layers, T), int64."""
        program, settings = self.program, self.program.settings
        layers, size = program.program.layers, len(images)
        spikes = np.zeros((len(layers) + 1, self.steps), np.int64)
        synops = np.zeros((len(layers), self.steps), np.int64)
        currents: Tensor | None = None
        limits, carried = np.zeros((0, 0), np.int32), dict[str, Any]()
        if settings.encode.analog:
            currents = encoded_input(program.program, settings, images, torch.arange(size), torch.tensor([0]))
        else:
            limits = self._limits(images)
        drives: dict[str, np.ndarray] = {}
        self.is_wide = {name: layer.wide for name, layer in program.layers.items()}
        for first in range(0, self.steps, program.chunk):
            steps = min(program.chunk, self.steps - first)
            values = {} if currents is None else {"input": currents}
            if currents is None:
                self.library.events_encode(
                    limits.ctypes.data, keys.ctypes.data, limits.shape[1], size, first, steps,
                    byref(self.lists["input"]), self.scratch.ctypes.data,
                )  # fmt: skip
                self._tally("input", size, steps, spikes[0, first:])
            for i, layer in enumerate(layers):
                name = layer.name
                if name in program.layers:
                    if currents is not None and "input" in layer.synapses.sources and first == 0:
                        drives[name] = self._constant_drive(layer, currents)
                    self._run_compiled(name, size, first, steps, drives.get(name), predicted, counts)
                else:
                    self._run_plain(layer, size, first, steps, values, carried)
                for k, source in enumerate(layer.synapses.sources):
                    if source not in program.program.analog:
                        skipped = int(settings.drop_first_output and layer is layers[-1] and first == 0)
                        self.library.events_operations(
                            program.fan_outs[name, k].ctypes.data, byref(self.lists[source]), size, skipped, steps,
                            synops[i, first:].ctypes.data,
                        )  # fmt: skip
                if not layer.analog:
                    self._tally(name, size, steps, spikes[i + 1, first:])
            self._read_output(size, first, steps, values, predicted, counts)
        return spikes, synops

    def run_layer(self, layer: ProgramLayer, values: dict[str, Tensor], spikes: Tensor, counts: Tensor) -> None:
        """Fills the spikes (T, B, S) and the counts (B, S) of one layer, given the values of its sources for B images."""
        size, analog = len(counts), self.program.program.analog
        self.is_wide = {layer.name: self.program.layers[layer.name].wide}
        drive = self._constant_drive(layer, values["input"]) if "input" in values and "input" in analog else None
        unread = np.zeros((self.steps, size), np.int16), np.zeros((size, 1))
        for first in range(0, self.steps, self.program.chunk):
            chunk = spikes[first : first + self.program.chunk]
            for source, value in values.items():
                if source not in analog:
                    self._pack(source, value[first : first + len(chunk)])
            self._run_compiled(layer.name, size, first, len(chunk), drive, *unread)
            self._unpack(layer.name, chunk)
            lists = byref(self.lists[layer.name])
            self.library.events_count(lists, size, len(chunk), counts.shape[1], counts.data_ptr())

    def _limits(self, images: Tensor) -> np.ndarray:
        if images.dtype == torch.uint8:
            return self.program.levels[images.flatten(1).numpy()]
        return input_limits(images, self.program.settings).numpy()

    def _tally(self, name: str, images: int, steps: int, spikes: np.ndarray) -> None:
        self.library.events_tally(byref(self.lists[name]), images, steps, spikes.ctypes.data)

    def _run_compiled(
        self,
        name: str,
        images: int,
        first: int,
        steps: int,
        drive: np.ndarray | None,
        predicted: np.ndarray,
        counts: np.ndarray,
    ) -> None:
        layer = self.program.layers[name]
        wide = self.is_wide[name]
        before = None
        if layer.guarded and not wide and first:
            before = self.states[name, False].copy()
        if not self._call(layer, wide, images, first, steps, drive, predicted, counts):
            return
        self.is_wide[name] = layer.wide = True  # for the images to come, too
        if before is not None:
            numbers, group = 2 * layer.own.size, self.program.group  # potentials and blocked steps of each image
            sums = self._state(layer, True).view(np.int64).reshape(group, -1)
            sums[:, :numbers] = before.view(np.int32).reshape(group, -1)[:, :numbers]
        self._call(layer, True, images, first, steps, drive, predicted, counts)

    def _call(
        self, layer: CompiledLayer, wide: bool, images: int, first: int, steps: int, drive: np.ndarray | None,
        predicted: np.ndarray, counts: np.ndarray,
    ) -> bool:  # fmt: skip
        """One chunk of one layer. Returns whether its sums passed the guard."""
        name, struct = layer.layer.name, layer.struct(wide)
        if drive is not None:
            drive = aligned(drive, SUMS[wide])
            struct = type(struct).from_buffer_copy(struct)
            struct.bias, struct.bias_stride = drive.ctypes.data, layer.own.size
        state = self._state(layer, wide)
        out = self.lists.get(name)
        chunk = _Chunk(
            images, first, steps, ctypes.addressof(self.inputs[name]), None if out is None else ctypes.addressof(out),
            state.ctypes.data, 0 if self.whole else self.state_bytes[name, wide], self.scratch.ctypes.data,
        )  # fmt: skip
        stride = predicted.strides[0] // predicted.itemsize
        return bool(
            _library(wide).events_layer(
                byref(struct), byref(chunk), counts.shape[1], self._unread(first), self.program.number[name].ctypes.data,
                predicted[first:].ctypes.data, stride, counts.ctypes.data,
            )
        )  # fmt: skip

    def _state(self, layer: CompiledLayer, wide: bool) -> np.ndarray:
        """The state of a layer: of one image after the other, if the chunk is the whole simulation, else of all of them."""
        key = layer.layer.name, wide
        if key not in self.state_bytes:
            self.state_bytes[key] = _lines(_library(wide).events_state(byref(layer.struct(wide))))
        size = self.state_bytes[key] * (1 if self.whole else self.program.group)
        if self.whole:
            if self.shared.size < size:
                self.shared = aligned(np.zeros(0, np.uint8), np.uint8, size)
            return self.shared
        if key not in self.states:
            self.states[key] = aligned(np.zeros(0, np.uint8), np.uint8, size)
        return self.states[key]

    def _constant_drive(self, layer: ProgramLayer, currents: Tensor) -> np.ndarray:
        """The drive (B, N) by a constant input, in place of the bias."""
        own, size = self.program.neurons[layer.name], currents.shape[1]
        sources = {
            name: currents[0] if name == "input" else currents.new_zeros(size, *self.program.neurons[name].shape)
            for name in layer.synapses.sources
        }
        drive: np.ndarray = np.zeros((size, own.size), np.int64)
        drive[:, own.number_of] = layer.drive(sources).flatten(1).numpy()
        return drive

    def _run_plain(
        self,
        layer: ProgramLayer,
        images: int,
        first: int,
        steps: int,
        values: dict[str, Tensor],
        carried: dict[str, Any],
    ) -> None:
        """One chunk of a layer in plain torch. values: currents (T or 1, B, ...); carried: the state of each layer."""
        read = {}
        for source in layer.synapses.sources:
            read[source] = values[source] if source in values else self._unpacked(source, images, steps)
        dropped = self.program.settings.drop_first_output and layer is self.program.program.layers[-1] and first == 0
        out, carried[layer.name] = layer.scan(layer.drive(read, over_time), steps, carried.get(layer.name), dropped)
        if layer.analog:
            values[layer.name] = out
            return
        self._pack(layer.name, self.program.neurons[layer.name].numbered(out))

    def _pack(self, name: str, values: Tensor) -> None:
        """The lists of spikes from values by number, uint8 (T, B, S)."""
        steps, images, size = values.shape
        self.library.events_pack(byref(self.lists[name]), images, steps, size, values.stride(0), values.data_ptr())

    def _unpack(self, name: str, values: Tensor) -> Tensor:
        """Fills values (T, B, S), and returns them."""
        steps, images, size = values.shape
        self.library.events_unpack(byref(self.lists[name]), images, steps, size, values.stride(0), values.data_ptr())
        return values

    def _unpacked(self, source: str, images: int, steps: int) -> Tensor:
        neurons = self.program.neurons[source]
        values = self._unpack(source, torch.empty(steps, images, neurons.size, dtype=torch.uint8))
        return neurons.maps(values).to(torch.float64)

    def _read_output(
        self, images: int, first: int, steps: int, values: dict[str, Tensor], predicted: np.ndarray, counts: np.ndarray
    ) -> None:
        """Reads the class from spikes, or from currents that plain torch computed; `summed_current` has read its own."""
        name = self.program.program.layers[-1].name
        if not self.program.program.read_current:
            stride = predicted.strides[0] // predicted.itemsize
            self.library.events_predict(
                byref(self.lists[name]), images, self._unread(first), steps, counts.shape[1],
                self.program.order[name].ctypes.data,
                predicted[first:].ctypes.data, stride, counts.ctypes.data,
            )  # fmt: skip
        elif name in values:
            unread = min(self._unread(first), steps)
            predicted[first : first + unread] = -1
            if unread < steps:
                sums = values[name].flatten(2)[unread:].cumsum(0) + torch.from_numpy(counts)
                predicted[first + unread : first + steps] = predict(sums).numpy()
                counts[:] = sums[-1].numpy()

    def _unread(self, first: int) -> int:
        """How many steps of the chunk that begins with step `first` are left out of the read-out."""
        return max(0, self.program.settings.read_from - first)


def _lines(size: int) -> int:
    """A size in bytes, rounded up to cache lines, and one more: pieces neither share a line nor a page's offset."""
    return (size + 127) // 64 * 64


def aligned(array: np.ndarray, dtype: type, size: int | None = None) -> np.ndarray:
    """A contiguous copy that begins on a cache line; size: uninitialized memory of so many numbers instead."""
    shape = array.shape if size is None else (size,)
    total = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.empty(total + 64, np.uint8)
    start = -memory.ctypes.data % 64
    made: np.ndarray = memory[start : start + total].view(dtype).reshape(shape)
    if size is None:
        made[...] = array
    return made
