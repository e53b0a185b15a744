"""A RateSNN as the plain chain of modules that other libraries build their networks from."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from respike.convert.rate.rate_snn import RateSNN
from respike.errors import InputError

Draw = Callable[[Tensor], Tensor]  # spike probabilities -> spikes of the same shape, float 0 or 1
Simulator = Callable[[Tensor, Draw], Tensor]  # images (B, C, H, W), draw -> output spikes (B, classes)


def drives(snn: RateSNN) -> list[nn.Sequential]:
    """What lies before each spiking layer, first layer first: copies in float32, to be changed at will.

    Raises InputError where a layer reads anything but the one before it.
    """
    before = "input"
    for name, layer in snn.layers.items():
        if layer.sources != [before]:
            raise InputError(f"layer '{name}' reads {layer.sources}: the peers are built from chains of layers only")
        before = name
    return [nn.Sequential(*copy.deepcopy(list(layer.synapses[0]))).float() for layer in snn.layers.values()]


def bernoulli(probability: Tensor) -> Tensor:
    """Random spikes as everybody draws them."""
    return (torch.rand_like(probability) < probability).float()
