"""What one thread of the compiled events needs: its memory, and the simulation of a group of images in it.

T steps, B images, N neurons of a layer, S of them padded.
"""

import ctypes
from ctypes import byref
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from respike.layers.over_time import over_time
from respike.simulate.rate.input import encoded_input, input_limits
from respike.simulate.rate.kernels.event_layer import SUMS, Chunk, CompiledLayer, Lists, events_library
from respike.simulate.rate.kernels.event_synapses import LANES, aligned, aligned_memory, lines
from respike.simulate.rate.program import COPIES, ProgramLayer, alive, widest
from respike.simulate.rate.units import Carry
from respike.simulate.record import predict

if TYPE_CHECKING:
    from respike.simulate.rate.kernels.events import EventProgram

INTEGERS = {False: torch.int32, True: torch.int64}  # of a layer's sums, by whether they are wide


class Plan:
    """Where a thread holds what it needs for groups of `images` images and chunks of `steps` steps.

    lists: by name, (offset of the spikes, offset of the counts, room per step, blocks); a list's place is taken again behind
    its last reader. kept: for each layer the names of the currents that later ones read. size: bytes of the lists; dense: the
    most bytes of plain torch at once, see `_dense`.
    """

    def __init__(self, program: "EventProgram", images: int, steps: int):
        layers = program.program.layers
        in_memory = alive(layers)
        last_reader = {name: i for i, names in enumerate(in_memory) for name in names}
        last_reader[layers[-1].name] = len(layers)
        self.kept = [*in_memory[1:], {layers[-1].name}]
        self.lists: dict[str, tuple[int, int, int, int]] = {}
        taken: list[tuple[int, int, int]] = []  # (begin, end, last reader)
        self.size = 0
        made_by = {layer.name: i for i, layer in enumerate(layers)}
        for name in program.neurons:
            if name in program.program.analog:
                continue
            i = made_by.get(name, -1)
            room, blocks = program.neurons[name].size + LANES, -(-program.neurons[name].size >> 16)
            spikes, counts = lines(images * steps * room * 2), lines(images * steps * blocks * 4)
            taken = sorted(block for block in taken if block[2] >= i)
            begin = 0
            for first, end, _ in taken:
                if first - begin >= spikes + counts:
                    break
                begin = max(begin, end)
            taken.append((begin, begin + spikes + counts, last_reader.get(name, -1)))
            self.lists[name] = begin, begin + spikes, room, blocks
            self.size = max(self.size, begin + spikes + counts)
        self.dense = images * steps * max(map(partial(_dense, program), layers, in_memory))


def _dense(program: "EventProgram", layer: ProgramLayer, in_memory: set[str]) -> int:
    """Bytes of plain torch while a layer is computed, for one image and step: all currents that it and later layers read, and,
    if its drive is not summed in events.c alone, the spikes it reads, the drive, and its copies. Not the input, a constant."""
    carried = 8 * sum(program.shapes[name].numel() for name in in_memory & program.program.analog - {"input"})
    if layer.name not in program.plain and not isinstance(layer.neuron, Carry):
        return carried
    spikes = 9 * sum(program.neurons[name].size for name in program.spiking_sources(layer))
    copies = 8 * COPIES * widest(layer, program.shapes)
    return carried + (spikes if layer.name in program.plain else 0) + copies + 8 * program.neurons[layer.name].size


class Worker:
    """The memory of one thread, and the simulation of a group of images in it."""

    def __init__(self, program: "EventProgram"):
        self.program, self.steps = program, program.settings.steps
        self.library = program.library
        plan = Plan(program, program.group, program.chunk)
        self.kept = plan.kept
        self.memory = aligned_memory(plan.size)
        base = self.memory.ctypes.data
        self.lists = {
            name: Lists(base + spikes, base + counts, room, program.chunk, blocks)
            for name, (spikes, counts, room, blocks) in plan.lists.items()
        }
        self.whole = program.chunk >= self.steps
        scratch = [1 << 20]  # bytes; of which `events_encode` needs less
        self.state_bytes: dict[tuple[str, bool], int] = {}
        self.states: dict[tuple[str, bool], np.ndarray] = {}
        self.inputs = {}
        for name, layer in program.layers.items():
            read = program.spiking_sources(layer.layer)
            self.inputs[name] = (Lists * len(read))(*(self.lists[source] for source in read))
            scratch.append(events_library(layer.wide).events_scratch(byref(layer.struct(layer.wide)), program.chunk))
            scratch.append(layer.own.size * 8)
        self.scratch = aligned_memory(max(scratch))
        self.shared = np.zeros(0, np.uint8)

    def run(
        self, images: Tensor, index: Tensor, keys: np.ndarray, predicted: np.ndarray, counts: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Fills predicted (T, B) and counts (B, classes) of images with these numbers (B,) and keys.

        Returns spikes (layers + 1, T), the input first, and synops (layers, T), int64.
        """
        program, settings = self.program, self.program.settings
        layers, size = program.program.layers, len(images)
        spikes = np.zeros((len(layers) + 1, self.steps), np.int64)
        synops = np.zeros((len(layers), self.steps), np.int64)
        currents: Tensor | None = None
        limits, carried = np.zeros((0, 0), np.int32), dict[str, Any]()
        if settings.encode.analog:
            currents = encoded_input(program.program, settings, images, index, torch.tensor([0]))
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
                if name in program.plain:
                    self._run_plain(layer, size, first, steps, values, carried, predicted, counts)
                elif isinstance(layer.neuron, Carry):
                    values[name], _ = layer.scan(self._summed(name, size, first, steps), steps)
                else:
                    if currents is not None and first == 0 and "input" in layer.synapses.sources:
                        drives[name] = self._constant_drive(layer, currents)
                    self._run_compiled(name, size, first, steps, drives.get(name), predicted, counts)
                for k, source in enumerate(layer.synapses.sources):
                    if source not in program.program.analog:
                        skipped = int(settings.drop_first_output and layer is layers[-1] and first == 0)
                        self.library.events_operations(
                            program.fan_outs[name, k].ctypes.data, byref(self.lists[source]), size, skipped, steps,
                            synops[i, first:].ctypes.data,
                        )  # fmt: skip
                values = {source: value for source, value in values.items() if source in self.kept[i]}
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
            return np.ascontiguousarray(
                self.program.levels[images.flatten(1).numpy()]
            )  # else in the order of the images
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
        given: Tensor | None = None,
    ) -> None:
        """One chunk of a layer. drive: by a constant current, (B, N); given: the whole drive (T or 1, B, ...N), if known."""
        layer = self.program.layers[name]
        wide = self.is_wide[name]
        before = None
        if layer.guarded and not wide and first:
            before = self.states[name, False].copy()
        if not self._call(layer, wide, images, first, steps, drive, predicted, counts, given):
            return
        self.is_wide[name] = layer.wide = True  # for the images to come, too
        if before is not None:
            numbers, group = 2 * layer.own.size, self.program.group  # potentials and blocked steps of each image
            sums = self._state(layer, True).view(np.int64).reshape(group, -1)
            sums[:, :numbers] = before.view(np.int32).reshape(group, -1)[:, :numbers]
        self._call(layer, True, images, first, steps, drive, predicted, counts, given)

    def _call(
        self, layer: CompiledLayer, wide: bool, images: int, first: int, steps: int, drive: np.ndarray | None,
        predicted: np.ndarray, counts: np.ndarray, given: Tensor | None,
    ) -> bool:  # fmt: skip
        """One chunk of one layer. Returns whether its sums passed the guard."""
        struct = layer.struct(wide)
        if drive is not None:
            drive = aligned(drive, SUMS[wide])
            struct = type(struct).from_buffer_copy(struct)
            struct.bias, struct.bias_stride = drive.ctypes.data, layer.own.size
        chunk = self._chunk(layer, wide, images, first, steps)
        if given is not None:
            summed = torch.zeros(images, steps, layer.own.size, dtype=INTEGERS[wide])
            layer.own.maps(summed).copy_(given.transpose(0, 1))
            return bool(events_library(wide).events_neurons(byref(struct), byref(chunk), summed.data_ptr()))
        stride = predicted.strides[0] // predicted.itemsize
        return bool(
            events_library(wide).events_layer(
                byref(struct), byref(chunk), counts.shape[1], self._unread(first), self.program.number_of_class.ctypes.data,
                predicted[first:].ctypes.data, stride, counts.ctypes.data,
            )
        )  # fmt: skip

    def _chunk(self, layer: CompiledLayer, wide: bool, images: int, first: int, steps: int) -> Chunk:
        name, state, stride = layer.layer.name, None, 0
        if not isinstance(layer.layer.neuron, Carry):
            state = self._state(layer, wide).ctypes.data
            stride = 0 if self.whole else self.state_bytes[name, wide]
        inputs, out = ctypes.addressof(self.inputs[name]), self.lists.get(name)
        to = None if out is None else ctypes.addressof(out)
        return Chunk(images, first, steps, inputs, to, state, stride, self.scratch.ctypes.data)

    def _summed(self, name: str, images: int, first: int, steps: int) -> Tensor:
        """The drive (T, B, ...N) of a layer that hands it on, from the lists of spikes."""
        layer = self.program.layers[name]
        chunk = self._chunk(layer, layer.wide, images, first, steps)
        summed = torch.empty(images, steps, layer.own.size, dtype=INTEGERS[layer.wide])
        events_library(layer.wide).events_drive(byref(layer.struct(layer.wide)), byref(chunk), summed.data_ptr())
        return layer.own.maps(summed).transpose(0, 1).to(torch.float64)

    def _state(self, layer: CompiledLayer, wide: bool) -> np.ndarray:
        """The state of a layer: of one image after the other, if the chunk is the whole simulation, else of all of them."""
        key = layer.layer.name, wide
        if key not in self.state_bytes:
            self.state_bytes[key] = lines(events_library(wide).events_state(byref(layer.struct(wide))))
        size = self.state_bytes[key] * (1 if self.whole else self.program.group)
        if self.whole:
            if self.shared.size < size:
                self.shared = aligned_memory(size)
            return self.shared
        if key not in self.states:
            self.states[key] = aligned_memory(size)
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
        predicted: np.ndarray,
        counts: np.ndarray,
    ) -> None:
        """One chunk of a layer, or of its drive, in plain torch. values: currents (T or 1, B, ...); carried: their states."""
        read = {}
        for source in layer.synapses.sources:
            read[source] = values[source] if source in values else self._unpacked(source, images, steps)
        dropped = self.program.settings.drop_first_output and layer is self.program.program.layers[-1] and first == 0
        drive = layer.drive(read, over_time)
        del read
        if layer.name in self.program.layers:
            drive = layer.without_first(drive, steps) if dropped else drive
            self._run_compiled(layer.name, images, first, steps, None, predicted, counts, drive)
            return
        out, carried[layer.name] = layer.scan(drive, steps, carried.get(layer.name), dropped)
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
                self.program.class_of_number.ctypes.data,
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
