"""Optimizers with different settings for different parameters: parameters -> Optimizer."""

from collections.abc import Iterable

from torch import nn
from torch.optim import SGD, Optimizer


def sgd_kernel_l2(
    parameters: Iterable[nn.Parameter], lr: float, l2: float, momentum: float = 0.0, nesterov: bool = False
) -> Optimizer:
    """SGD with the penalty l2 * sum(w^2) on weights, not on biases and batch norms (Keras' kernel_regularizer).

    The gradient of the penalty is 2 l2 w, so that the weight decay is 2 * l2.
    """
    parameters = list(parameters)
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 2 * l2},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov)
