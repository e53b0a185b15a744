"""Fully-connected ReLU networks."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from respike.errors import InputError
from respike.networks.dropout import Dropout, dropout_shares


class MaskDropout(nn.Module):
    """Dropout as Hinton et al. 2012 wrote it: a plain mask at training, activations times (1 - p) at test.

    `nn.Dropout` scales at training instead; with a learning rate of 1 the two do not train alike, and here the
    weights at test belong to unscaled activations (Diehl et al. simulate them without the factor).
    """

    def __init__(self, p: float):
        super().__init__()
        if not 0 <= p < 1:
            raise InputError(f"model.dropout={p}: a share in [0, 1) is needed, as in model.dropout=0.5")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, kept."""
        if self.training:
            return x * torch.empty_like(x).bernoulli_(1 - self.p)
        return x * (1 - self.p)

    def extra_repr(self) -> str:
        """The share dropped, for print(net)."""
        return f"p={self.p}"


class _UnmaskedReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient


class UnmaskedReLU(nn.ReLU):
    """A ReLU whose gradient is 1 everywhere: the authors' FC trainer does not mask its output error."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, kept."""
        return _UnmaskedReLU.apply(x) if self.training else x.clamp(min=0)


def output_activation(output_relu: str) -> list[nn.Module]:
    """What follows the last layer: "masked", an ordinary ReLU; "unmasked", an `UnmaskedReLU`; "none", nothing."""
    ends = {"masked": [nn.ReLU()], "unmasked": [UnmaskedReLU()], "none": []}
    if output_relu not in ends:
        raise InputError(f"model.output_relu={output_relu}: unknown, choose one of {', '.join(ends)}")
    return ends[output_relu]


class MLP(nn.Sequential):
    """Linear layers, each followed by a ReLU; images (B, C, H, W) are flattened to (B, C*H*W).

    sizes: neurons per layer, input first; dropout: `MaskDropout` behind each hidden layer, its share as in `dropout_shares`;
    bias: weights only where false; output_relu: as in `output_activation`.
    """

    def __init__(self, sizes: Sequence[int], dropout: Dropout = 0.0, bias: bool = False, output_relu: str = "masked"):
        if len(sizes) < 2 or min(sizes) < 1:
            raise InputError(
                f"model.sizes={list(sizes)}: two or more layer sizes are needed, as in model.sizes=[784,1200,10]"
            )
        _, _, share = dropout_shares(dropout)
        layers: list[nn.Module] = [nn.Flatten()]
        for n_in, n_out in pairwise(sizes[:-1]):
            layers += [nn.Linear(n_in, n_out, bias=bias), nn.ReLU()]
            if share:
                layers.append(MaskDropout(share))
        super().__init__(*layers, nn.Linear(sizes[-2], sizes[-1], bias=bias), *output_activation(output_relu))
