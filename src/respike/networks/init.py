"""Initial weights, drawn as in the published trainings. Each function changes the weights of a network in place."""

import math

from torch import nn


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
