"""A network that was trained as a spiking one, on images: its own neurons, counted like those of a converted network.

Shapes: T steps, B images, C classes. Steps have no length in ms: `times_ms` and `dt` of the records are NaN.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn
from tqdm import tqdm

from respike.convert.rate.rate_snn import SpikingLayer, Synapse
from respike.data.pixels import to_unit
from respike.errors import InputError
from respike.neurons.encode import Current
from respike.neurons.integrate_fire import IntegrateFire
from respike.simulate.connections import connections
from respike.simulate.rate.program import Program, ProgramLayer
from respike.simulate.rate.settings import Settings
from respike.simulate.record import SpikeRecord, Tally
from respike.system.precision import full_float32


def simulate_direct(
    net: nn.Module,
    images: Tensor,
    *,
    steps: int | None = None,
    index: Tensor | None = None,
    chunk: int = 100,
    progress: bool = False,
) -> SpikeRecord:
    """Count the spikes of a network with `spikes(images, steps)`, `spiking_layers()` and `synapses()`, in eval mode.

    images: (B, C, H, W) in [0, 1], or uint8 pixels. steps: T, None for the network's own. index: image numbers (B,),
    default 0, 1, ... chunk: images at a time. progress: a bar on a terminal. The image is a current at each step: an analog
    input. Synaptic operations: per spike, the weights it meets, a shortcut without weights being one; through the pool
    in front of the FC layers, all of the first one's. Raises InputError for less than one step or image.
    """
    steps = _checked(net, steps)
    if chunk < 1:
        raise InputError(f"simulate.chunk={chunk}: a number of images from 1 up, as in simulate.chunk=100")
    index = torch.arange(len(images)) if index is None else index
    program = wiring(net, images.shape[1:])
    settings = Settings(encode=Current(1.0), dt=1.0, duration=float(steps))
    parts = []
    with (
        torch.inference_mode(),
        full_float32(),
        tqdm(total=len(images), desc="simulate", unit="img", disable=None if progress else True, leave=False) as bar,
    ):
        for first in range(0, len(images), chunk):
            x, tally = to_unit(images[first : first + chunk]), Tally(program, settings)
            with watched(net, tally.add):
                output = net.spikes(x, steps)
            parts.append(tally.record(index[first : first + chunk], output))
            bar.update(len(x))
    whole = SpikeRecord.merge(parts)
    return replace(whole, times_ms=torch.full((steps,), math.nan, dtype=torch.float64), dt=math.nan)


def potential_histograms(
    net: nn.Module, images: Tensor, low: float, high: float, bins: int = 60, steps: int | None = None
) -> dict[str, Tensor]:
    """How many potentials of each layer lie in each of `bins` parts of [low, high], int64 (bins,), over all steps and images.

    Potentials are those that are held against the threshold, before any reset; those beyond the ends count in the outer parts.
    images: as in `simulate_direct`.
    """
    counts = {name: torch.zeros(bins, dtype=torch.int64) for name in net.spiking_layers()}
    states: dict = {}
    with torch.inference_mode():
        for _ in range(_checked(net, steps)):
            net.spikes(to_unit(images), 1, states)
            for name, layer in net.spiking_layers().items():
                u = states[getattr(layer, "lif", layer)].u.float().clamp(low, high)
                counts[name] += torch.histc(u.cpu(), bins, low, high).long()
    return counts


@contextmanager
def watched(net: nn.Module, see: Callable[[str, Tensor], None]) -> Iterator[None]:
    """See(name, spikes (T, B, ...)) of every spiking layer that the network computes meanwhile."""
    hooks = [
        layer.register_forward_hook(lambda _module, _inputs, spikes, name=name: see(name, spikes))
        for name, layer in net.spiking_layers().items()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def wiring(net: nn.Module, input_shape: torch.Size) -> Program:
    """The network's layers with their shapes, the connections of each of their sources' neurons, and their products."""
    shapes, layers = {"input": torch.Size(input_shape)}, []
    for name, drives in deepcopy(net).float().cpu().synapses().items():
        layer = SpikingLayer("relu", [Synapse(source, *_fixed(path, shapes[source])) for source, path in drives])
        with torch.inference_mode():
            shape = layer.drive({source: torch.zeros(1, *shapes[source]) for source in layer.sources}).shape[1:]
        layers.append(ProgramLayer(name, layer, IntegrateFire(), shape, *connections(layer, shapes)))
        shapes[name] = shape
    return Program(tuple(layers), torch.float32, None, shapes["input"])


def _fixed(path: list[nn.Module], shape: torch.Size) -> list[nn.Module]:
    """Global pools as ordinary ones of the size of what reaches them."""
    return [nn.AvgPool2d(tuple(shape[-2:])) if isinstance(module, nn.AdaptiveAvgPool2d) else module for module in path]


def _checked(net: nn.Module, steps: int | None) -> int:
    steps = net.steps if steps is None else steps
    if not (isinstance(steps, int) and steps >= 1):
        raise InputError(
            f"simulate.steps={steps}: a whole number of at least 1, or null for the network's own {net.steps}"
        )
    return steps
