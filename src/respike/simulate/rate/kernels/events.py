"""The events backend: a fixed-point program, layer by layer, in compiled, event-driven C (events.c), on all threads.

B images, T steps, N neurons of a layer, S of them padded. This module says what runs here, and splits the work. event_layer.py
holds a layer as events.c reads it, event_synapses.py its synapses; event_worker.py is the memory and the run of one thread.

Images are simulated in groups, and, where the lists of spikes of all T steps would be large, in chunks of steps with carried
state. What events.c does not compute, the drive by carried currents and pools of currents, plain torch does in between.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from respike.neurons.encode import image_keys
from respike.neurons.integrate_fire import FixedPointIntegrateFire
from respike.simulate.rate.input import input_limits
from respike.simulate.rate.kernels.event_layer import SOURCE, CompiledLayer, events_library
from respike.simulate.rate.kernels.event_synapses import Neurons, Wiring, aligned, wire, wire_windows
from respike.simulate.rate.kernels.event_worker import Plan, Worker
from respike.simulate.rate.program import Program, ProgramLayer, new_tally, widest
from respike.simulate.rate.settings import Settings
from respike.simulate.rate.units import Carry, MaxPool, SummedCurrent
from respike.simulate.record import SpikeRecord
from respike.system.compiler import library

GROUP = 32  # images that share a block of weights while it is in the cache
BUDGET = 1 << 25  # bytes of lists of spikes of one thread, where a chunk of LEAST steps of one image does not need more
LEAST = 8  # steps of a chunk, unless the values of plain torch that are in memory at once then need more than
DENSE = 1 << 27  # bytes of one thread
MEMORY = 3 << 29  # bytes of all threads; fewer threads run where they would need more
NO_COMPILER = "simulate.backend=events needs a C compiler (set CC)"
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
    """Why plain torch computes a layer, or its drive, between the others, None if it does not."""
    if isinstance(layer.neuron, Carry) and "input" in program.analog and "input" in layer.synapses.sources:
        return "an input current handed on"
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


def _first(names: list[str]) -> str:
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + rest


class EventProgram:
    """A program prepared for events.c; `run` simulates chunks of images on all threads.

    layers: by name, as events.c runs them; plain: by name, why plain torch computes the others, or the drive of neurons that
    events.c runs. group: images at a time of a thread; chunk: steps at a time.
    """

    def __init__(self, program: Program, settings: Settings):
        self.settings = settings
        self.neurons = {"input": Neurons.of_input(program.input_shape)}
        for layer in program.layers:
            sources = zip(layer.connections.sources, layer.connections.fan_outs, strict=True)
            self.neurons |= {name: Neurons.of_layer(reach.shape) for name, reach in sources if name not in self.neurons}
            self.neurons[layer.name] = Neurons.of_layer(layer.shape)
        self.shapes = {name: neurons.shape for name, neurons in self.neurons.items()}
        self.layers: dict[str, CompiledLayer] = {}
        self.plain: dict[str, str] = {}
        held: list[ProgramLayer] = []
        for layer in program.layers:
            made = self._compiled(program, layer)
            if isinstance(made, str):
                self.plain[layer.name] = made
                if isinstance(layer.neuron, FixedPointIntegrateFire):
                    self.layers[layer.name] = CompiledLayer(layer, [], settings, self.neurons[layer.name], False)
            else:
                self.layers[layer.name] = made
            held.append(layer if isinstance(made, str) or self._reads_current(layer) else made.layer)
        self.program = replace(program, layers=tuple(held))
        self.fan_outs = {
            (layer.name, i): aligned(self.neurons[source].scattered(fan_out.flatten().numpy()), np.int32)
            for layer in program.layers
            for i, (source, fan_out) in enumerate(
                zip(layer.connections.sources, layer.connections.fan_outs, strict=True)
            )
            if source not in program.analog
        }
        output = self.neurons[program.layers[-1].name]
        self.number_of_class = aligned(output.number_of, np.int32)
        self.class_of_number = aligned(output.scattered(np.arange(len(output.number_of))), np.int32)
        self.levels = np.zeros(256, np.int32)  # the limit of each uint8 pixel
        if not settings.encode.analog:
            self.levels = input_limits(torch.arange(256, dtype=torch.uint8)[:, None], settings).numpy()[:, 0]
        self.group, self.chunk = self._split()
        self.free: list[Worker] = []
        self.library = events_library(False)

    @property
    def plain_layers(self) -> str:
        """The layers that plain torch computes, at most three by name, with the reason."""
        names: dict[str, list[str]] = {}
        for name, reason in self.plain.items():
            names.setdefault(reason, []).append(f"'{name}'")
        return "; ".join(f"{_first(layers)} ({reason})" for reason, layers in names.items())

    def _reads_current(self, layer: ProgramLayer) -> bool:
        """Whether a constant input current drives a layer."""
        return self.settings.encode.analog and "input" in layer.synapses.sources

    def _compiled(self, program: Program, layer: ProgramLayer) -> CompiledLayer | str:
        """The layer as events.c runs it, or why it cannot."""
        reason = plain_reason(program, layer)
        if reason is not None:
            return reason
        own, last = self.neurons[layer.name], layer is program.layers[-1]
        sources = [self.neurons[name] for name in layer.synapses.sources]
        synapses = list(layer.synapses.synapses)
        if isinstance(layer.neuron, MaxPool):
            assert isinstance(layer.neuron.pool, nn.MaxPool2d)
            wired: list[Wiring] | None = wire_windows(layer, layer.neuron.pool, sources, own)
        else:
            made = [
                wire(
                    synapse,
                    layer,
                    source,
                    own,
                    len(synapses) == 1 and isinstance(layer.neuron, FixedPointIntegrateFire),
                )
                for synapse, source in zip(synapses, sources, strict=True)
                if not (self.settings.encode.analog and synapse.source == "input")
            ]
            wired = [wiring for wiring in made if wiring is not None]
            wired = wired if len(wired) == len(made) else None
        if wired is None:
            convs = [module for synapse in synapses for module in synapse if isinstance(module, nn.Conv2d)]
            if any(conv.padding_mode != "zeros" or isinstance(conv.padding, str) for conv in convs):
                return "a convolution padded by other than zeros, or by different numbers on two sides"
            return "weights of more than 32 bits, or too many connections for a list"
        return CompiledLayer(layer, wired, self.settings, own, self.settings.drop_first_output and last)

    def spiking_sources(self, layer: ProgramLayer) -> list[str]:
        """The sources of the synapses that carry spikes."""
        return [source for source in layer.synapses.sources if source not in self.program.analog]

    def _split(self) -> tuple[int, int]:
        """(images at a time of a thread, steps at a time)."""
        steps, plan = self.settings.steps, Plan(self, 1, 1)
        per_step = max(1, plan.size + plan.dense)
        if per_step * steps <= BUDGET:
            return min(GROUP, BUDGET // (per_step * steps)), steps
        fitting = max(LEAST, BUDGET // max(1, plan.size))
        return 1, min(steps, fitting, max(1, DENSE // max(1, plan.dense)))

    def _memory(self) -> int:
        """Bytes that one thread needs: lists, the states of all layers if they are carried, drives by constant currents."""
        sizes = {name: 16 * layer.own.size for name, layer in self.layers.items()}
        states = (
            max(sizes.values(), default=0) if self.chunk >= self.settings.steps else self.group * sum(sizes.values())
        )
        in_torch = [layer for layer in self.program.layers if layer.name not in self.layers]
        states += self.group * 24 * sum(widest(layer, self.shapes) for layer in in_torch)
        driven = filter(self._reads_current, self.program.layers)
        drives = self.group * 24 * sum(layer.shape.numel() for layer in driven)
        plan = Plan(self, self.group, self.chunk)
        return plan.size + plan.dense + states + drives

    def run(self, images: Tensor, index: Tensor) -> SpikeRecord:
        """The record of images (B, C, H, W) with these numbers (B,)."""
        if self.plain:
            _log_plain(self.plain_layers)
        keys = torch.stack(image_keys(index, self.settings.seed), dim=1).contiguous().numpy()
        predicted = np.zeros((self.settings.steps, len(images)), np.int16)
        classes = self.program.layers[-1].shape.numel()
        counts = np.zeros((len(images), classes), np.float64 if self.program.read_current else np.int32)

        def run(worker: Worker, group: slice) -> tuple[np.ndarray, np.ndarray]:
            return worker.run(images[group], index[group], keys[group], predicted[:, group], counts[group])

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

    def _in_groups(self, run: Callable[[Worker, slice], Any], images: int) -> list[Any]:
        """run(worker, group) for every group of so many images, on all threads."""
        threads = torch.get_num_threads()
        size = min(self.group, -(-images // threads))

        def task(a: int) -> Any:
            try:
                worker = self.free.pop()
            except IndexError:
                worker = Worker(self)
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

    @classmethod
    def of(cls, frame: Program, layer: ProgramLayer, settings: Settings) -> "LayerAlone | None":
        """A layer of a program like `frame`, whose layers may be missing; None if events.c does not run it."""
        program = replace(frame, layers=(layer,))
        neurons = isinstance(layer.neuron, FixedPointIntegrateFire) and not layer.grids
        if settings.backend not in ("auto", "events") or not neurons or unsupported(program, settings) is not None:
            return None
        alone = cls(program, replace(settings, drop_first_output=False))
        return None if alone.plain else alone

    def run_layer(self, values: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The layer's spikes (T, B, S), and their counts, int32 (B, ...N), from the values of its sources."""
        (layer,) = self.program.layers
        neurons, images = self.neurons[layer.name], next(iter(values.values())).shape[1]
        spikes = torch.empty(self.settings.steps, images, neurons.size, dtype=torch.uint8)
        counts = torch.zeros(images, neurons.size, dtype=torch.int32)

        def run(worker: Worker, group: slice) -> None:
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
