"""Optimizers that treat some parameters of a network apart: parameters -> Optimizer."""

from collections.abc import Iterable

from torch import nn
from torch.optim import SGD, Optimizer


def sgd_kernel_l2(
    parameters: Iterable[nn.Parameter], lr: float, l2: float, momentum: float = 0.0, nesterov: bool = False
) -> Optimizer:
    """SGD on a loss with l2 * sum(w^2) added for kernels, no biases or batch norms (Keras' kernel_regularizer).

    The term's gradient is 2 l2 w, twice a weight decay of the same number.
    """
    parameters = list(parameters)
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 2 * l2},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov)
