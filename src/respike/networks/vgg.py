"""The VGG-like networks of the exact mapping (Stanojevic et al. 2023): ReLU first, batch norm second, max-pools."""

from collections.abc import Sequence
from typing import Final, Literal

from torch import nn

from respike.errors import InputError
from respike.networks.dropout import Dropout, dropout_shares
from respike.networks.lenet import KERAS_EPS, KERAS_MOMENTUM, set_momentum
from respike.networks.standardize import Standardize

POOL: Final = "P"
Feature = int | Literal["P"]  # number of maps of a convolution, or a pool


class VGG(nn.Sequential):
    """Padded 3x3 convolutions and max-pools of 2, then linear layers; a ReLU and then a batch norm behind each but the last.

    features: number of maps of each convolution, "P" for a pool. hidden: widths of the linear layers before the output.
    input_shape: (C, H, W). dropout: shares dropped behind the first convolution, the other convolutions, the last pool, and
    linear layers. dropout_at_pools: drop also behind convolutions that a pool follows. mean, std: of the pixels per channel;
    if given, the first layer standardizes the pixels. batch_norm: false builds no batch norms. Raises InputError for images
    that are too small for the pools.
    """

    def __init__(
        self,
        features: Sequence[Feature],
        hidden: Sequence[int],
        input_shape: Sequence[int],
        classes: int = 10,
        dropout: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
        dropout_at_pools: bool = True,
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
        batch_norm: bool = True,
    ):
        maps, *sides = input_shape
        first, others, last_pool, linear = dropout
        layers: list[nn.Module] = [Standardize(list(mean), list(std))] if mean else []
        for i, width in enumerate(features):
            if width == POOL:
                layers.append(nn.MaxPool2d(2))
                sides = [side // 2 for side in sides]
                continue
            layers += [nn.Conv2d(maps, width, 3, padding=1), nn.ReLU()]
            layers += [nn.BatchNorm2d(width, KERAS_EPS, KERAS_MOMENTUM)] if batch_norm else []
            pool_follows = i + 1 < len(features) and features[i + 1] == POOL
            if dropout_at_pools or not pool_follows:
                layers += _dropout(others if i else first)
            maps = width
        if min(sides) < 1:
            raise InputError(
                f"model.features={list(features)}: images of {input_shape[1]}x{input_shape[2]} pixels are too small "
                "for so many pools"
            )
        layers += [*_dropout(last_pool), nn.Flatten()]
        n_in = maps * sides[0] * sides[1]
        for width in hidden:
            layers += [nn.Linear(n_in, width), nn.ReLU()]
            layers += [nn.BatchNorm1d(width, KERAS_EPS, KERAS_MOMENTUM)] if batch_norm else []
            layers += _dropout(linear)
            n_in = width
        super().__init__(*layers, nn.Linear(n_in, classes))


def _dropout(share: float) -> list[nn.Module]:
    return [nn.Dropout(share)] if share else []


class VGGMnist(VGG):
    """16 layers for MNIST and Fashion-MNIST: 64,64,128,128,P,256x3,P,512x3,P,512x3,P,512,512,10.

    dropout: share dropped behind every batch norm, as in `dropout_shares`; width: multiplies every number of maps, 1 for the
    paper's; momentum: of the batch norms, Keras' by default, more for a training of a few epochs.
    """

    def __init__(
        self,
        dropout: Dropout = 0.0,
        input_shape: Sequence[int] = (1, 28, 28),
        classes: int = 10,
        width: float = 1.0,
        momentum: float = KERAS_MOMENTUM,
    ):
        features = _scaled([64, 64, 128, 128, POOL, *[256] * 3, POOL, *[512] * 3, POOL, *[512] * 3, POOL], width)
        first, others, linear = dropout_shares(dropout)
        shares = (first, others, 0.0, linear)
        super().__init__(features, [_scale(512, width)] * 2, input_shape, classes, shares)
        set_momentum(self, momentum)


class VGGCifar(VGG):
    """15 layers for CIFAR: 64,64,P,128,128,P,256x3,P,512x3,P,512x3,P,512,n; pixels standardized by one mean and deviation.

    dropout: share dropped behind the first convolution, behind others that no pool follows, and behind the last pool and the
    linear layer, as in `dropout_shares`; mean, std: of all pixels in [0, 1], CIFAR-10's by default; width, momentum: as in
    `VGGMnist`.
    """

    def __init__(
        self,
        dropout: Dropout = (0.3, 0.4, 0.5),
        input_shape: Sequence[int] = (3, 32, 32),
        classes: int = 10,
        mean: float = 120.707 / 255,
        std: float = 64.15 / 255,
        width: float = 1.0,
        momentum: float = KERAS_MOMENTUM,
    ):
        features = _scaled([64, 64, POOL, 128, 128, POOL, *[256] * 3, POOL, *[512] * 3, POOL, *[512] * 3, POOL], width)
        first, others, linear = dropout_shares(dropout)
        shares, channels = (first, others, linear, linear), input_shape[0]
        super().__init__(
            features, [_scale(512, width)], input_shape, classes, shares, False, [mean] * channels, [std] * channels
        )
        set_momentum(self, momentum)


def _scaled(features: Sequence[Feature], width: float) -> list[Feature]:
    return [feature if feature == POOL else _scale(feature, width) for feature in features]


def _scale(maps: int, width: float) -> int:
    return max(1, round(maps * width))
