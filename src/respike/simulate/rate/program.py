"""A RateSNN prepared for one simulation: connections, neurons and weights in the arithmetic of the simulation.

Both simulators (layerwise.py, and stepwise.py, the reference) and all kernels run a Program. It holds the network's own
weights in floating point, or integers (fixed_point.py).
"""

import copy
import logging
import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from respike.convert.rate.rate_snn import RateSNN, SpikingLayer
from respike.errors import InputError
from respike.neurons.integrate_fire import FixedPointIntegrateFire
from respike.neurons.neuron import Neuron
from respike.simulate.connections import (
    Connections,
    LayerConnections,
    Paths,
    layer_shapes,
    network_connections,
    without_adaptive_pools,
)
from respike.simulate.rate.fixed_point import EXACT, largest_drive, round_layer
from respike.simulate.rate.settings import Settings
from respike.simulate.record import Tally

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProgramLayer:
    """One spiking layer: its connections, the synapses that compute its drive, and its neuron.

    largest_drive: a bound on |drive|, known in fixed point.
    """

    connections: LayerConnections
    synapses: SpikingLayer
    neuron: Neuron
    largest_drive: float = math.inf

    @property
    def name(self) -> str:
        """Name of the layer."""
        return self.connections.name

    @property
    def shape(self) -> torch.Size:
        """Shape of its neurons, without the batch."""
        return self.connections.shape

    @property
    def fixed_point_neuron(self) -> FixedPointIntegrateFire:
        """The neuron of a fixed-point program."""
        assert isinstance(self.neuron, FixedPointIntegrateFire)
        return self.neuron

    def largest_potential(self, steps: int) -> float:
        """A bound on |potential| and its intermediate results over so many steps; known in fixed point."""
        neuron = self.fixed_point_neuron
        return self.largest_drive * (steps + 1) + neuron.fires_at + abs(neuron.start_potential)


@dataclass(frozen=True)
class Program:
    """Layers in order, the dtype they compute in, and the grid of analog inputs (None: any float).

    fixed_point: weights, drives and potentials are integers, and the neurons `FixedPointIntegrateFire`.
    """

    connections: Connections
    layers: tuple[ProgramLayer, ...]
    dtype: torch.dtype
    fixed_point: bool = False
    input_grid: int | None = None

    @property
    def input_shape(self) -> torch.Size:
        """Shape of the images (C, H, W)."""
        return self.connections.input_shape

    def input_values(self, encoded: Tensor) -> Tensor:
        """Encoded input (spikes, or currents rounded to the input grid) in the program's dtype."""
        encoded = encoded.to(self.dtype)
        return encoded if self.input_grid is None else (encoded * self.input_grid).round()


def compile_program(
    snn: RateSNN, input_shape: torch.Size, settings: Settings, largest_current: float | None = None
) -> Program:
    """The network as the settings run it, for images of shape (C, H, W).

    In fixed point if simulate.weight_bits asks for it and the neuron allows it. largest_current: a bound on the magnitude of
    input currents, as `input.largest_current` finds it for some images; None: that of pixel 1. Raises InputError for images
    that do not fit, and as `compile_fixed_point`.
    """
    neuron = settings.neuron.with_time_step(settings.dt)
    if settings.weight_bits is None:
        return compile_float(snn, input_shape, neuron)
    if neuron.fixed_point(1.0) is None:
        _log_float(type(neuron).__name__)
        return compile_float(snn, input_shape, neuron)
    largest = settings.encode.largest_current if largest_current is None else largest_current
    return compile_fixed_point(snn, input_shape, neuron, settings.weight_bits, settings.steps, largest)


@cache
def _log_float(neuron: str) -> None:
    log.warning(
        "%s has no fixed-point form: the simulation runs in floating point, as with simulate.weight_bits=null", neuron
    )


def compile_float(snn: RateSNN, input_shape: torch.Size, neuron: Neuron) -> Program:
    """The network in its own precision, with the same neuron in every layer."""
    snn = _with_ordinary_pools(snn, input_shape)
    connections = network_connections(synapse_paths(snn), input_shape)
    layers = tuple(
        ProgramLayer(counted, layer, neuron)
        for counted, layer in zip(connections.layers, snn.layers.values(), strict=True)
    )
    return Program(connections, layers, next(snn.parameters(), torch.empty(0)).dtype)


def compile_fixed_point(
    snn: RateSNN, input_shape: torch.Size, neuron: Neuron, bits: int, steps: int, largest_current: float | None
) -> Program:
    """The network rounded, layer by layer, to multiples of a power of two, scaled to integers held in float64.

    bits: signed bits of a weight, 2 to 24. largest_current: the largest magnitude of an input current, None for input spikes. A
    pool keeps its integer sum and multiplies its threshold by its area.
    Raises InputError where a sum over the steps could exceed 2^53, and as `round_layer`.
    """
    if not 2 <= bits <= 24:
        raise InputError(f"simulate.weight_bits={bits}: 2 to 24, or null for floating point")
    snn = _with_ordinary_pools(snn, input_shape).double()
    connections = network_connections(synapse_paths(snn), input_shape)
    shapes = {"input": connections.input_shape} | {layer.name: layer.shape for layer in connections.layers}
    input_grid = 1 if largest_current is None else 1 << (bits - 1)
    largest_input = 1 if largest_current is None else round(input_grid * largest_current)
    layers = []
    for counted, layer in zip(connections.layers, snn.layers.values(), strict=True):
        try:
            unit = round_layer(layer, bits, input_grid, neuron.threshold)
        except InputError as error:
            raise InputError(f"simulate.weight_bits={bits}: layer '{counted.name}': {error}") from error
        largest = largest_drive(layer, shapes, largest_input)
        fixed_point_neuron = neuron.fixed_point(unit)
        assert fixed_point_neuron is not None  # callers compile other neurons in floating point
        layers.append(ProgramLayer(counted, layer, fixed_point_neuron, largest))
        if not layers[-1].largest_potential(steps) < EXACT:
            raise InputError(
                f"simulate.weight_bits={bits}: sums in layer '{counted.name}' could exceed 2^53; use fewer bits"
            )
    grid = None if largest_current is None else input_grid
    return Program(connections, tuple(layers), torch.float64, fixed_point=True, input_grid=grid)


def new_tally(program: Program, settings: Settings) -> Tally:
    """An empty tally of one chunk of images."""
    return Tally(
        program.connections,
        settings.steps,
        analog_input=settings.encode.analog,
        drop_first_output=settings.drop_first_output,
        dt=settings.dt,
        times_ms=settings.times_ms,
    )


def synapse_paths(snn: RateSNN) -> Paths:
    """The paths of the network's synapses, as simulate/connections.py reads them."""
    return {name: [(synapse.source, list(synapse)) for synapse in layer.synapses] for name, layer in snn.layers.items()}


def _with_ordinary_pools(snn: RateSNN, input_shape: torch.Size) -> RateSNN:
    """A copy in eval mode with ordinary average pools in place of adaptive ones."""
    snn = copy.deepcopy(snn).eval()
    shapes = layer_shapes(synapse_paths(snn), input_shape)
    for layer in snn.layers.values():
        for synapse in layer.synapses:
            for i, module in enumerate(without_adaptive_pools(list(synapse), shapes[synapse.source])):
                synapse[i] = module
    return snn
