"""Initial weights, drawn as in the published trainings. Each function changes a network in place."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from respike.networks.standardize import Standardize


def _weighted(net: nn.Module) -> list[nn.Module]:
    return [module for module in net.modules() if isinstance(module, nn.Linear | nn.Conv2d)]


def uniform(net: nn.Module, bound: float) -> None:
    """Weights uniform in [-bound, bound] (Diehl et al. 2015, fully-connected network: 0.01)."""
    for module in _weighted(net):
        nn.init.uniform_(module.weight, -bound, bound)


def glorot(net: nn.Module) -> None:
    """Weights uniform in +-sqrt(6 / (fan_in + fan_out)), biases 0: the default of Keras."""
    for module in _weighted(net):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def glorot_positive_output(net: nn.Module) -> None:
    """Weights uniform in +-b, b = sqrt(6 / (fan_in + fan_out)), and in [0, b] in the last layer (Diehl et al. 2015, CNN)."""
    *hidden, output = _weighted(net)
    for module in hidden:
        nn.init.xavier_uniform_(module.weight)
    classes, inputs = output.weight.shape
    nn.init.uniform_(output.weight, 0, math.sqrt(6 / (inputs + classes)))


def measure_batch_norms(net: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the running means and variances of all batch norms to the averages over batches (B, C, H, W) of images.

    Each batch is normalized by its own mean and variance on its way, as in training; dropout does nothing.
    """
    modes = {module: module.training for module in net.modules()}
    norms = [
        m
        for m in net.modules()
        if isinstance(m, _BatchNorm) and not isinstance(m, Standardize) and m.track_running_stats
    ]
    momenta = [norm.momentum for norm in norms]
    net.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the average over all batches
        norm.train()
    with torch.no_grad():
        for images in batches if norms else ():
            net(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    for module, mode in modes.items():
        module.training = mode
