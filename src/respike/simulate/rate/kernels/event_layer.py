"""A layer in the structures of events.c, which is built twice, and the functions of both builds.

The narrow build has 16-bit weights and 32-bit sums; the wide one, -DWIDE, 32-bit weights and 64-bit sums. Each layer is run by
the build that it needs. A layer whose potentials could pass 32 bits, though no drive can, is run by the narrow build under
a guard, and again by the wide one where they do.
"""

import ctypes
import threading
from ctypes import POINTER, c_int32, c_int64, c_void_p
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from respike.convert.rate.rate_snn import SpikingLayer, Synapse
from respike.neurons.integrate_fire import FixedPointIntegrateFire
from respike.simulate.rate.kernels.event_synapses import SYNAPSE_ARRAYS, SYNAPSE_NUMBERS, Neurons, Wiring, aligned
from respike.simulate.rate.program import ProgramLayer
from respike.simulate.rate.settings import Settings
from respike.simulate.rate.units import MaxPool, SummedCurrent
from respike.system.compiler import Source, library

SOURCE = Source.read(Path(__file__).with_name("events.c"))
FLAGS = {False: (), True: ("-DWIDE",)}  # of the compiler, by whether the sums are wide
GUARD = 1 << 30  # of a potential in 32 bits: from here one more step, of a drive below it, stays within them
FIRES, COUNTING_MAX, GATED_MAX, SUMMED_CURRENT = range(4)


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


class Lists(ctypes.Structure):
    """Lists of spikes, `lists_t` of lists.h."""

    _fields_ = [("spikes", c_void_p), ("count", c_void_p), ("room", c_int64), ("steps", c_int32), ("blocks", c_int32)]


class Chunk(ctypes.Structure):
    """What a chunk of steps needs, `chunk_t` of layers.h."""

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
def events_library(wide: bool) -> ctypes.CDLL:
    """One of the two builds of events.c."""
    built = library(SOURCE, *FLAGS[wide])
    assert built is not None  # callers ask `events.unsupported` first
    for name, arguments in {
        "events_encode": (c_void_p, c_void_p, c_int32, c_int32, c_int32, c_int32, c_void_p, c_void_p),
        "events_tally": (c_void_p, c_int32, c_int32, c_void_p),
        "events_operations": (c_void_p, c_void_p, c_int32, c_int32, c_int32, c_void_p),
        "events_predict": (c_void_p, c_int32, c_int32, c_int32, c_int32, c_void_p, c_void_p, c_int64, c_void_p),
        "events_unpack": (c_void_p, c_int32, c_int32, c_int64, c_int64, c_void_p),
        "events_pack": (c_void_p, c_int32, c_int32, c_int64, c_int64, c_void_p),
        "events_count": (c_void_p, c_int32, c_int32, c_int64, c_void_p),
        "events_drive": (c_void_p, c_void_p, c_void_p),
        "events_neurons": (c_void_p, c_void_p, c_void_p),
        "events_layer": (c_void_p, c_void_p, c_int32, c_int32, c_void_p, c_void_p, c_int64, c_void_p),
        "events_scratch": (c_void_p, c_int32),
        "events_state": (c_void_p,),
    }.items():
        getattr(built, name).argtypes = arguments
    built.events_scratch.restype = built.events_state.restype = c_int64
    return built


class CompiledLayer:
    """A layer as events.c runs it: neurons and their drive, neurons whose drive is given (without wirings), or a drive alone.

    wide: its sums have 64 bits. guarded: they have 32, which the bound on its potentials passes, so that every run is checked.
    """

    def __init__(self, layer: ProgramLayer, wirings: list[Wiring], settings: Settings, own: Neurons, drops_first: bool):
        self.layer = _without_weights(layer)
        self.wirings, self.steps, self.own, self.drops_first = wirings, settings.steps, own, drops_first
        neuron = layer.neuron
        rest = neuron.fires_at + layer.largest_start if isinstance(neuron, FixedPointIntegrateFire) else 0
        narrow = all(wiring.largest < 1 << 15 for wiring in wirings if wiring.has_weights_of_sums)
        fits = layer.largest_potential(settings.steps) < 1 << 31 or isinstance(neuron, MaxPool)
        self.guarded = narrow and not fits and layer.largest_drive < GUARD and rest < GUARD
        self.wide = not (narrow and (fits or self.guarded))
        for wiring in wirings:
            of_sums = WEIGHTS[self.wide] if wiring.has_weights_of_sums else np.int32
            wiring.arrays = {
                name: aligned(array, of_sums if name == "weights" else np.int32)
                for name, array in wiring.arrays.items()
            }
        self.kept: list[Any] = []  # what the structures point to, beside these arrays
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
            constants |= {"soft": neuron.reset == "subtract", "blocked": min(neuron.blocked_steps, self.steps)}
            constants |= {"threshold": neuron.threshold, "fires_at": neuron.fires_at}
            own_start = layer.synapses.start
            start[own.number_of] = neuron.start_potential + (0 if own_start is None else own_start.flatten().numpy())
        elif isinstance(neuron, MaxPool):
            unit = GATED_MAX if neuron.rule == "gate" else COUNTING_MAX
        elif isinstance(neuron, SummedCurrent):
            unit = SUMMED_CURRENT
        if self.wirings and unit in (FIRES, SUMMED_CURRENT) and layer.synapses.bias is not None:
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
        arrays = dict(wiring.arrays)
        if wiring.has_weights_of_sums:
            arrays["weights"] = aligned(arrays["weights"], WEIGHTS[wide])  # a copy for a guarded layer's second build
            self.kept.append(arrays["weights"])
        return _Synapse(
            *(wiring.numbers.get(name, 0) for name in SYNAPSE_NUMBERS),
            *(arrays[name].ctypes.data if name in arrays else None for name in SYNAPSE_ARRAYS),
        )


def _without_weights(layer: ProgramLayer) -> ProgramLayer:
    """The layer with its bias and start potentials, but without the weights of its synapses, which events.c has."""
    whole = layer.synapses
    synapses = [Synapse(synapse.source) for synapse in whole.synapses]
    return replace(layer, synapses=SpikingLayer(whole.kind, synapses, whole.bias, whole.pool, whole.rule, whole.start))
