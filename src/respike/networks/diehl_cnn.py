"""The convolutional network of Diehl et al. 2015, written in their notation as 28x28-12c5-2s-64c5-2s-10o."""

from collections.abc import Sequence

from torch import nn

from respike.errors import InputError
from respike.networks.mlp import output_activation


class DiehlCNN(nn.Sequential):
    """Valid convolutions, ReLU and average pools, then one linear layer with a ReLU; no biases.

    channels: number of maps of each convolution; kernel: width of the kernels; pool: width of the average pools;
    pool_stride: their stride, by default their width; input_shape: (C, H, W); classes: number of outputs; bias: true adds
    biases; output_relu: as in `output_activation`. Raises InputError for images that are too small.
    """

    def __init__(
        self,
        channels: Sequence[int] = (12, 64),
        kernel: int = 5,
        pool: int = 2,
        pool_stride: int | None = None,
        input_shape: Sequence[int] = (1, 28, 28),
        classes: int = 10,
        bias: bool = False,
        output_relu: str = "masked",
    ):
        maps, *sides = input_shape
        layers: list[nn.Module] = []
        for n_out in channels:
            layers += [nn.Conv2d(maps, n_out, kernel, bias=bias), nn.ReLU(), nn.AvgPool2d(pool, pool_stride)]
            sides = [(side - kernel + 1 - pool) // (pool_stride or pool) + 1 for side in sides]
            if min(sides) < 1:
                raise InputError(
                    f"model.channels={list(channels)}: images of {input_shape[1]}x{input_shape[2]} pixels are too small "
                    f"for {len(channels)} convolutions of width {kernel} with pools of {pool}; take fewer or smaller ones"
                )
            maps = n_out
        layers += [nn.Flatten(), nn.Linear(maps * sides[0] * sides[1], classes, bias=bias)]
        super().__init__(*layers, *output_activation(output_relu))
