"""Start weights, as the published trainers draw them. Each function changes a network's weights in place."""

import math

from torch import nn


def _weighted(net: nn.Module) -> list[nn.Module]:
    return [module for module in net.modules() if isinstance(module, nn.Linear | nn.Conv2d)]


def uniform(net: nn.Module, bound: float) -> None:
    """Every weight uniform in [-bound, bound] (Diehl et al., FC: 0.01)."""
    for module in _weighted(net):
        nn.init.uniform_(module.weight, -bound, bound)


def glorot(net: nn.Module) -> None:
    """Weights uniform +-sqrt(6 / (fan_in + fan_out)), biases 0, as Keras starts."""
    for module in _weighted(net):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def glorot_positive_output(net: nn.Module) -> None:
    """Uniform +-sqrt(6 / (fan_in + fan_out)); the last layer uniform in [0, that] (Diehl et al., CNN)."""
    *hidden, output = _weighted(net)
    for module in hidden:
        nn.init.xavier_uniform_(module.weight)
    classes, inputs = output.weight.shape
    nn.init.uniform_(output.weight, 0, math.sqrt(6 / (inputs + classes)))
