"""Evaluation of a directly trained spiking network: its spikes are counted as those of a converted one.

Shapes: T steps, B images, C classes. Steps have no length in seconds, so `dt` and `times_ms` of the records are None.
"""

import torch
from torch import Tensor, nn
from tqdm import tqdm

from respike.data.pixels import to_unit
from respike.errors import InputError
from respike.layers.neuron_layer import NeuronLayer, States
from respike.layers.recording import spike_hooks
from respike.simulate.connections import network_connections
from respike.simulate.record import SpikeRecord, Tally, image_numbers
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
    default 0, 1, ... chunk: images at a time. progress: a bar on a terminal. The image is an input current, the same at each
    step. A spike causes one synaptic operation per weight it reaches, one on a shortcut without weights, and, through the pool
    in front of the FC layers, one per unit of the first of them. Raises InputError for less than one step or image.
    """
    steps = _checked_steps(net, steps)
    index = image_numbers(images, index, chunk)
    connections = network_connections(net.synapses(), images.shape[1:])
    parts = []
    with (
        torch.inference_mode(),
        full_float32(),
        tqdm(total=len(images), desc="simulate", unit="img", disable=None if progress else True, leave=False) as bar,
    ):
        for first in range(0, len(images), chunk):
            x = to_unit(images[first : first + chunk])
            tally = Tally(connections, steps, analog=("input",))
            with spike_hooks(net, tally.add):
                output = net.spikes(x, steps)
            parts.append(tally.record(index[first : first + chunk], output))
            bar.update(len(x))
    return SpikeRecord.merge(parts)


def potential_histograms(
    net: nn.Module, images: Tensor, low: float, high: float, bins: int = 60, steps: int | None = None
) -> dict[str, Tensor]:
    """Histograms of the potentials of each layer over all steps and images: int64 (bins,), equal bins from low to high.

    Potentials are those compared with the threshold, before any reset; those outside [low, high] count in the outer bins.
    images: as in `simulate_direct`.
    """
    counts = {name: torch.zeros(bins, dtype=torch.int64) for name in net.spiking_layers()}
    states: States = {}
    with torch.inference_mode():
        for _ in range(_checked_steps(net, steps)):
            net.spikes(to_unit(images), 1, states)
            for name, layer in net.spiking_layers().items():
                neurons = layer if isinstance(layer, NeuronLayer) else layer.neurons
                potentials = states[neurons].potential.float().clamp(low, high)
                counts[name] += torch.histc(potentials.cpu(), bins, low, high).long()
    return counts


def _checked_steps(net: nn.Module, steps: int | None) -> int:
    steps = net.steps if steps is None else steps
    if not (isinstance(steps, int) and steps >= 1):
        raise InputError(
            f"simulate.steps={steps}: a whole number of at least 1, or null for the network's own {net.steps}"
        )
    return steps
