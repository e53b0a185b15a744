"""A RateSNN prepared for one simulation: connections, neurons and weights in the arithmetic of the simulation.

Both simulators (layerwise.py, and stepwise.py, the reference) and all kernels run a Program. It holds the network's own
weights in floating point, or integers (fixed_point.py).
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from respike.convert.graph.nodes import Scale
from respike.convert.rate.rate_snn import Apply, RateSNN, SpikingLayer, Synapse, call
from respike.errors import InputError
from respike.networks.copying import copied, device_of
from respike.neurons.integrate_fire import FixedPointIntegrateFire
from respike.neurons.neuron import Neuron
from respike.simulate.connections import (
    Connections,
    LayerConnections,
    Paths,
    Pools,
    layer_shapes,
    network_connections,
    with_plain_pools,
)
from respike.simulate.rate.fixed_point import EXACT, largest_drive, round_layer
from respike.simulate.rate.settings import Settings
from respike.simulate.rate.units import Carry, MaxPool, SummedCurrent
from respike.simulate.record import Tally

COPIES = 4  # of the widest tensor that a layer needs: its drive, of which one synapse's part, with its rounding
CompileLayer = Callable[[str], "ProgramLayer"]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProgramLayer:
    """One layer: its connections, the synapses that compute its drive, and its neuron (or what stands in its place, units.py).

    analog: its values are currents, not spikes. grids: in fixed point, by source of currents, the integer that stands for 1.
    largest_drive: a bound on |drive|, known in fixed point.
    """

    connections: LayerConnections
    synapses: SpikingLayer
    neuron: Neuron
    analog: bool = False
    grids: Mapping[str, float] = field(default_factory=dict)
    largest_drive: float = math.inf

    def drive(self, values: Mapping[str, Tensor], apply: Apply = call) -> Tensor:
        """The drive (rows, ...N), as `SpikingLayer.drive`.

        In fixed point the products with currents are rounded to the layer's own grid, so that its sums need no more bits.
        """
        return self.synapses.drive(values, apply, self.grids)

    def scan(self, drive: Tensor, steps: int, state: Any = None, drop_first: bool = False) -> tuple[Tensor, Any]:
        """Spikes or currents of T steps from the drive (T or 1, B, ...N), and the state behind them, as in `Neuron.scan`.

        drop_first: the layer gets no drive in the first of these steps.
        """
        if drop_first:
            drive = self.without_first(drive, steps)
        if state is None and self.synapses.start is not None:
            state = self.initial(drive[0])
        spikes, state = self.neuron.scan(drive, steps, state)
        return spikes, type(state)(
            *(part.clone() if isinstance(part, Tensor) else part for part in state)
        )  # no views of all steps

    @staticmethod
    def without_first(drive: Tensor, steps: int) -> Tensor:
        """The drive (T, B, ...N) with zeros in the first step, from (T or 1, B, ...N)."""
        drive = drive.expand(steps, *drive.shape[1:]).clone()
        drive[0] = 0
        return drive

    def initial(self, like: Tensor) -> Any:
        """The state before the first step, for a drive like (B, ...N): that of the neuron, and the layer's start potentials."""
        state = self.neuron.initial(like)
        start = self.synapses.start
        return state if start is None else state._replace(potential=state.potential + start.to(like))

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

    @property
    def largest_start(self) -> float:
        """A bound on |potential| before the first step, in fixed point."""
        own = 0.0 if self.synapses.start is None else float(self.synapses.start.abs().max())
        return abs(self.fixed_point_neuron.start_potential) + own

    def largest_potential(self, steps: int) -> float:
        """A bound on |potential| and its intermediate results over so many steps; known in fixed point."""
        if isinstance(self.neuron, FixedPointIntegrateFire):
            return self.largest_drive * (steps + 1) + self.neuron.fires_at + self.largest_start
        return self.largest_drive * (1 if isinstance(self.neuron, Carry) else steps)


@dataclass(frozen=True)
class Program:
    """Layers in order, the dtype they compute in, and the grid of analog inputs (None: any float).

    fixed_point: weights, drives and potentials are integers, and the neurons `FixedPointIntegrateFire`. read_current: the class
    is read from the summed output current.
    """

    connections: Connections
    layers: tuple[ProgramLayer, ...]
    dtype: torch.dtype
    fixed_point: bool = False
    input_grid: int | None = None
    analog_input: bool = False
    read_current: bool = False

    @property
    def analog(self) -> frozenset[str]:
        """The layers, or "input", whose values are currents, not spikes."""
        currents = {layer.name for layer in self.layers if layer.analog}
        return frozenset(currents | ({"input"} if self.analog_input else set()))

    @property
    def input_shape(self) -> torch.Size:
        """Shape of the images (C, H, W)."""
        return self.connections.input_shape

    @property
    def shapes(self) -> dict[str, torch.Size]:
        """The shape of the values of the input and of each layer."""
        return {"input": self.input_shape} | {layer.name: layer.shape for layer in self.layers}

    @property
    def device(self) -> torch.device:
        """Where the weights are; the CPU before there is a layer."""
        weights = (weight for layer in self.layers for weight in layer.synapses.parameters())
        counted = (fan_out for layer in self.layers for fan_out in layer.connections.fan_outs)
        return next(chain(weights, counted), torch.empty(0)).device

    def input_values(self, encoded: Tensor) -> Tensor:
        """Encoded input (spikes, or currents rounded to the input grid) in the program's dtype."""
        encoded = encoded.to(self.dtype)
        return encoded if self.input_grid is None else (encoded * self.input_grid).round()


def alive(layers: Sequence[ProgramLayer]) -> list[set[str]]:
    """For every layer the values in memory while it is computed, by name: its own, and those that it or later ones read."""
    read = {source: i for i, layer in enumerate(layers) for source in layer.synapses.sources}
    begins = {"input": 0} | dict.fromkeys(read, 0) | {layer.name: i for i, layer in enumerate(layers)}
    ends = begins | read
    return [{name for name, begin in begins.items() if begin <= i <= ends[name]} for i in range(len(layers))]


def widest(layer: ProgramLayer, shapes: Mapping[str, torch.Size]) -> int:
    """Numbers in the largest tensor of one image and step that computing a layer needs. shapes: of all values."""
    return max(layer.shape.numel(), sum(shapes[source].numel() for source in layer.synapses.sources))


def compile_program(
    snn: RateSNN, input_shape: torch.Size, settings: Settings, largest_current: float | None = None
) -> Program:
    """The network as the settings run it, for images of shape (C, H, W).

    In fixed point if simulate.weight_bits asks for it and the neuron allows it. largest_current: a bound on the magnitude of
    input currents, as `input.largest_current` finds it for some images; None: that of pixel 1. Raises InputError for images
    that do not fit, and as `compile_fixed_point`.
    """
    return _whole(snn, *compile_by_layer(snn, input_shape, settings, largest_current))


def bounds_program(snn: RateSNN, input_shape: torch.Size, settings: Settings) -> Program:
    """The program of `compile_program` to read its costs and bounds off, not to run: single-precision weights stay so.

    They hold the integers of the grid, and a large network in float64 need not be in memory.
    """
    return _whole(snn, *compile_by_layer(snn, input_shape, settings, None, small=True))


def compile_by_layer(
    snn: RateSNN, input_shape: torch.Size, settings: Settings, largest_current: float | None, small: bool = False
) -> tuple[Program, CompileLayer]:
    """A program without layers, and the function that compiles a layer by its name, which is called in their order.

    It may be called again for a layer whose weights or buffers have been changed in place, before the next one is compiled.
    small: as `bounds_program` needs them. Other arguments and errors as in `compile_program`.
    """
    neuron = settings.neuron.with_time_step(settings.dt)
    analog = settings.encode.analog
    if settings.weight_bits is not None and neuron.fixed_point(1.0) is not None:
        largest = settings.encode.largest_current if largest_current is None else largest_current
        return _fixed_point(snn, input_shape, neuron, settings.weight_bits, settings.steps, largest, small)
    if settings.weight_bits is not None:
        _log_float(type(neuron).__name__)
    program = compile_float(snn, input_shape, neuron, analog)
    return replace(program, layers=()), {layer.name: layer for layer in program.layers}.__getitem__


def _whole(snn: RateSNN, frame: Program, compile_layer: CompileLayer) -> Program:
    return replace(frame, layers=tuple(map(compile_layer, snn.layers)))


@cache
def _log_float(neuron: str) -> None:
    log.warning(
        "%s has no fixed-point form: the simulation runs in floating point, as with simulate.weight_bits=null", neuron
    )


def compile_float(snn: RateSNN, input_shape: torch.Size, neuron: Neuron, analog_input: bool = False) -> Program:
    """The network in its own precision, with the same neuron in every layer that has neurons."""
    device, snn = device_of(snn), _with_plain_pools(snn, input_shape)
    connections = network_connections(synapse_paths(snn), input_shape, pools(snn))
    snn.to(device)
    layers: list[ProgramLayer] = []
    analog = _analog_layers(snn, analog_input)
    for counted, layer in zip(connections.layers, snn.layers.values(), strict=True):
        layers.append(ProgramLayer(counted, layer, _unit(snn, counted.name) or neuron, counted.name in analog))
    dtype = next(snn.parameters(), torch.empty(0)).dtype
    read_current = snn.output in analog  # a maximum of spikes is counted, whatever the read-out
    return Program(connections, tuple(layers), dtype, analog_input=analog_input, read_current=read_current)


def _unit(snn: RateSNN, name: str) -> Neuron | None:
    """What stands in place of the neurons of a layer, None for a layer of neurons."""
    layer = snn.layers[name]
    if name == snn.output and snn.readout == "current" and layer.kind != "max":
        return SummedCurrent()
    if layer.kind == "current":
        return Carry()
    if layer.kind == "max":
        assert layer.pool is not None
        return MaxPool(layer.pool, layer.rule)
    return None


def _is_analog(layer: SpikingLayer, unit: Neuron | None, analog: set[str]) -> bool:
    """Whether the values of a layer are currents: those it carries, and the maxima of currents."""
    return isinstance(unit, Carry | SummedCurrent) or (
        isinstance(unit, MaxPool) and not analog.isdisjoint(layer.sources)
    )


def _analog_layers(snn: RateSNN, analog_input: bool) -> set[str]:
    analog = {"input"} if analog_input else set()
    for name, layer in snn.layers.items():
        if _is_analog(layer, _unit(snn, name), analog):
            analog.add(name)
    return analog


def compile_fixed_point(
    snn: RateSNN, input_shape: torch.Size, neuron: Neuron, bits: int, steps: int, largest_current: float | None
) -> Program:
    """The network rounded, layer by layer, to multiples of a power of two, scaled to integers held in float64.

    bits: signed bits of a weight, 2 to 24. largest_current: the largest magnitude of an input current, None for input spikes. A
    pool keeps its integer sum and multiplies its threshold by its area. Carried currents are integers of at most `bits` bits.
    Raises InputError where a sum over the steps could exceed 2^53, and as `round_layer`.
    """
    return _whole(snn, *_fixed_point(snn, input_shape, neuron, bits, steps, largest_current))


def _fixed_point(
    snn: RateSNN,
    input_shape: torch.Size,
    neuron: Neuron,
    bits: int,
    steps: int,
    largest_current: float | None,
    small: bool = False,
) -> tuple[Program, CompileLayer]:
    """The program of `compile_fixed_point` without layers, and what compiles a layer, as in `compile_by_layer`."""
    if not 2 <= bits <= 24:
        raise InputError(f"simulate.weight_bits={bits}: 2 to 24, or null for floating point")
    device, snn = device_of(snn), _with_plain_pools(snn, input_shape)
    connections = network_connections(synapse_paths(snn), input_shape, pools(snn))
    analog_input = largest_current is not None
    frame = Program(
        connections, (), torch.float64, fixed_point=True, input_grid=grid_of_input(bits, True) if analog_input else None,
        analog_input=analog_input, read_current=snn.output in _analog_layers(snn, analog_input),
    )  # fmt: skip
    return frame, _fixed_point_layers(snn, connections, neuron, bits, steps, largest_current, small, device)


def grid_of_input(bits: int, analog: bool) -> int:
    """The integer that stands for an input of 1."""
    return 1 << (bits - 1) if analog else 1


def _fixed_point_layers(
    snn: RateSNN,
    connections: Connections,
    neuron: Neuron,
    bits: int,
    steps: int,
    largest_current: float | None,
    small: bool,
    device: torch.device,
) -> CompileLayer:
    shapes = {"input": connections.input_shape} | {layer.name: layer.shape for layer in connections.layers}
    input_grid = grid_of_input(bits, largest_current is not None)
    grids: dict[str, float] = {}  # of carried currents: the integer that stands for 1
    analog = set() if largest_current is None else {"input"}
    largest = {"input": 1.0 if largest_current is None else round(input_grid * largest_current)}  # value of each source
    counted_of = {counted.name: counted for counted in connections.layers}

    def compile_layer(name: str) -> ProgramLayer:
        counted, original = counted_of[name], snn.layer(name)
        layer = copied(original, lambda tensor: _in_float64(tensor, small))
        unit = _unit(snn, name)
        own_grids = {source: grids[source] for source in layer.sources if source in grids}
        if isinstance(unit, MaxPool):
            own_grids, grid = _common_grid(layer, analog, grids | {"input": float(input_grid)})
            drive = max(
                largest[source] / own_grids[source] + 1 if source in own_grids else largest[source] * grid
                for source in layer.sources
            )
            if own_grids:
                grids[name] = grid
        else:
            try:
                scale = round_layer(layer, bits, input_grid, neuron.threshold)
            except InputError as error:
                raise InputError(f"simulate.weight_bits={bits}: layer '{name}': {error}") from error
            drive = largest_drive(layer, shapes, largest, own_grids)
        if _is_analog(layer, unit, analog):
            analog.add(name)
        largest[name] = drive if name in analog else 1.0
        if isinstance(unit, Carry):
            step = 2.0 ** max(0, math.ceil(math.log2(max(drive, 1))) - (bits - 1))
            unit, grids[name], largest[name] = Carry(step), scale / step, drive / step
        if isinstance(unit, SummedCurrent):
            unit = SummedCurrent(scale)
        if unit is None:
            if layer.start is not None:
                layer.start.mul_(scale).round_()
            unit = neuron.fixed_point(scale)
            assert unit is not None  # callers compile other neurons in floating point
        made = ProgramLayer(counted, layer.to(device), unit, name in analog, own_grids, drive)
        if not made.largest_potential(steps) < EXACT:
            raise InputError(f"simulate.weight_bits={bits}: sums in layer '{name}' could exceed 2^53; use fewer bits")
        return made

    return compile_layer


def _common_grid(layer: SpikingLayer, analog: set[str], grids: Mapping[str, float]) -> tuple[dict[str, float], float]:
    """For a max-pool: by source of currents, what their integers are divided by to lie on one grid, and that grid.

    Its spikes are multiplied to lie on it as well. No division and 1 for a pool of spikes alone.
    """
    currents = [source for source in layer.sources if source in analog]
    grid = min((grids[source] for source in currents), default=1.0)
    for synapse in layer.synapses:
        if currents and synapse.source not in currents:
            synapse.append(Scale(grid))
    return {source: grids[source] / grid for source in currents}, grid


def new_tally(program: Program, settings: Settings) -> Tally:
    """An empty tally of one chunk of images."""
    return Tally(
        program.connections,
        settings.steps,
        analog=program.analog,
        pools=[layer.name for layer in program.layers if isinstance(layer.neuron, MaxPool) and not layer.analog],
        read_current=program.read_current,
        drop_first_output=settings.drop_first_output,
        read_from=settings.read_from,
        dt=settings.dt,
        times_ms=settings.times_ms,
    )


def synapse_paths(snn: RateSNN) -> Paths:
    """The paths of the network's synapses, as simulate/connections.py reads them."""
    return {name: [(synapse.source, list(synapse)) for synapse in layer.synapses] for name, layer in snn.layers.items()}


def pools(snn: RateSNN) -> Pools:
    """The max-pools of layers, of their drive or of their spikes."""
    return {name: layer.pool for name, layer in snn.layers.items() if layer.pool is not None}


def _with_plain_pools(snn: RateSNN, input_shape: torch.Size) -> RateSNN:
    """A copy on the CPU, in eval mode, with plain average pools in place of adaptive and irregular ones.

    Of a network on the CPU it has the same weights, not copies of them.
    """
    snn = copied(snn, lambda weights: weights.cpu()).eval()
    shapes = layer_shapes(synapse_paths(snn), input_shape, pools(snn))
    for layer in snn.layers.values():
        layer.synapses = nn.ModuleList(  # type: ignore[assignment]
            Synapse(synapse.source, *with_plain_pools(list(synapse), shapes[synapse.source]))
            for synapse in layer.synapses
        )
    return snn


def _in_float64(tensor: Tensor, small: bool) -> Tensor:
    """A copy in float64; small: of single-precision weights one in their own precision."""
    keep = small and isinstance(tensor, nn.Parameter) and tensor.dtype == torch.float32
    return tensor.detach().to(tensor.dtype if keep else torch.float64, copy=True)
