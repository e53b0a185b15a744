"""The same spiking network as users of other libraries would write it.

Every maker takes a RateSNN and the number of steps T. It returns a function (images (B, C, H, W), draw) -> output spikes
(B, classes) after T steps, where draw(p) returns random spikes of probability p. Neurons integrate without leak, fire at
potential 1 and are reset to 0. Average pools are neurons as well (Diehl et al. 2015).
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from respike.convert.rate.rate_snn import RateSNN, SpikingLayer
from respike.errors import InputError

Draw = Callable[[Tensor], Tensor]  # spike probabilities -> spikes of the same shape, float 0 or 1
Simulator = Callable[[Tensor, Draw], Tensor]  # images (B, C, H, W), draw -> output spikes (B, classes)


def drives(snn: RateSNN) -> list[nn.Sequential]:
    """The operations before each spiking layer, first layer first, as float32 copies.

    Raises InputError if a layer reads anything but the layer before it, or has a bias that no module can hold.
    """
    before = "input"
    for name, layer in snn.layers.items():
        if layer.sources != [before]:
            raise InputError(f"layer '{name}' reads {layer.sources}; the peers are built from chains of layers only")
        before = name
    return [_drive(layer) for layer in snn.layers.values()]


def _drive(layer: SpikingLayer) -> nn.Sequential:
    """The layer's operations with its bias in the weighted one, where other libraries have it."""
    drive = nn.Sequential(*copy.deepcopy(list(layer.synapses[0]))).float()
    if layer.bias is not None:
        weighted = drive[-1]
        if layer.bias.ndim != 1 or not isinstance(weighted, nn.Linear | nn.Conv2d):
            raise InputError("a bias per place, or behind a pool, has no counterpart in the peers")
        weighted.bias = nn.Parameter(layer.bias.float().clone(), requires_grad=False)
    return drive


def bernoulli(probability: Tensor) -> Tensor:
    """Independent random spikes."""
    return (torch.rand_like(probability) < probability).float()
