"""The LeNet5 of the exact mapping (Stanojevic et al. 2023): 6c5 same - pool - 16c5 - pool - 120c5 - 84 - 10."""

from collections.abc import Sequence

from torch import nn

from respike.errors import InputError
from respike.networks.dropout import Dropout, dropout_shares

KERAS_EPS, KERAS_MOMENTUM = 1e-3, 0.01  # the defaults of batch norms in Keras


def set_momentum(net: nn.Module, momentum: float) -> None:
    """Set the momentum of every batch norm that learns: the share of a batch in its running mean and variance."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.affine:
            module.momentum = momentum


class LeNet5(nn.Sequential):
    """Three 5x5 convolutions and two linear layers, a batch norm in front of every ReLU, max-pools of 2.

    dropout: share dropped behind the ReLU of each convolution, as in `dropout_shares`; input_shape: (C, H, W), of 28 pixels or
    more; classes: outputs, without a ReLU; momentum: of the batch norms, Keras' by default, more for a few epochs.
    """

    def __init__(
        self,
        dropout: Dropout = 0.0,
        input_shape: Sequence[int] = (1, 28, 28),
        classes: int = 10,
        momentum: float = KERAS_MOMENTUM,
    ):
        maps, *sides = input_shape
        layers: list[nn.Module] = []
        first, others, _ = dropout_shares(dropout)
        for n_out, padding, pooled, share in ((6, 2, True, first), (16, 0, True, others), (120, 0, False, others)):
            layers += [
                nn.Conv2d(maps, n_out, 5, padding=padding),
                nn.BatchNorm2d(n_out, KERAS_EPS, momentum),
                nn.ReLU(),
            ]
            layers += [nn.Dropout(share)] if share else []
            layers += [nn.MaxPool2d(2)] if pooled else []
            sides = [(side + 2 * padding - 4) // (2 if pooled else 1) for side in sides]
            maps = n_out
        if min(sides) < 1:
            raise InputError(
                f"model.input_shape={list(input_shape)}: images of 28 pixels or more are needed for LeNet5"
            )
        layers += [nn.Flatten(), nn.Linear(maps * sides[0] * sides[1], 84)]
        layers += [nn.BatchNorm1d(84, KERAS_EPS, momentum), nn.ReLU()]
        super().__init__(*layers, nn.Linear(84, classes))
