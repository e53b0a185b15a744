"""A RateSNN prepared for one kind of simulation: shapes, connections, neurons, and weights as they will be used.

Both simulators (clock.py, layer by layer; reference.py, step by step) run a Program and nothing else. `compile_float`
keeps the network's own weights; grid.py rounds them to integers.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from respike.convert.rate.rate_snn import RateSNN, SpikingLayer
from respike.neurons.integrate_fire import IntegrateFire
from respike.simulate.connections import connections, fixed_pools, layer_shapes


@dataclass(frozen=True)
class ProgramLayer:
    """One spiking layer: what drives it, its neuron, its shape (without batch), and per synapse two counts.

    fan_outs: connections of each source neuron (source shape); macs: multiply-accumulates of the weighted operation.
    largest_drive: a bound on |drive|, known on the grid.
    """

    name: str
    synapses: SpikingLayer
    neuron: IntegrateFire
    shape: torch.Size
    fan_outs: tuple[Tensor, ...]
    macs: tuple[int, ...]
    largest_drive: float = math.inf

    def largest_potential(self, steps: int) -> float:
        """A bound on |potential| and on all that is computed from it in so many steps; known on the grid."""
        return self.largest_drive * (steps + 1) + self.neuron.threshold + abs(self.neuron.start)


@dataclass(frozen=True)
class Program:
    """Layers in order, the dtype they compute in, the grid of analog inputs (None: any float) and the input's shape."""

    layers: tuple[ProgramLayer, ...]
    dtype: torch.dtype
    input_grid: int | None
    input_shape: torch.Size

    def macs(self, source: str | None = None) -> int:
        """Multiply-accumulates of one pass of the ReLU network per image; of the synapses of one source if given."""
        return sum(
            macs
            for layer in self.layers
            for name, macs in zip(layer.synapses.sources, layer.macs, strict=True)
            if source in (None, name)
        )

    def input_values(self, encoded: Tensor) -> Tensor:
        """Encoded input (spikes, or currents rounded to the input grid) in the program's dtype."""
        encoded = encoded.to(self.dtype)
        return encoded if self.input_grid is None else (encoded * self.input_grid).round()


def compile_float(snn: RateSNN, input_shape: torch.Size, neuron: IntegrateFire) -> Program:
    """The network in its own precision, every neuron alike."""
    snn = fixed_pools(snn, input_shape)
    shapes = layer_shapes(snn, input_shape)
    layers = tuple(
        ProgramLayer(name, layer, neuron, shapes[name], *connections(layer, shapes))
        for name, layer in snn.layers.items()
    )
    weights = next(snn.parameters(), torch.empty(0))
    return Program(layers, weights.dtype, None, input_shape)
