"""Fully-connected ReLU networks."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from respike.errors import InputError
from respike.networks.dropout import Dropout, dropout_shares


class MaskDropout(nn.Module):
    """Dropout as in Hinton et al. 2012: a mask in training, activations times (1 - p) in eval mode.

    `nn.Dropout` scales in training instead. The two train differently at a learning rate of 1, and with this one the trained
    weights belong to unscaled activations (Diehl et al. 2015 simulate them without the factor). p: share dropped, in [0, 1).
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
        """The share that is dropped, for print(net)."""
        return f"p={self.p}"


class _UnmaskedReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient


class UnmaskedReLU(nn.ReLU):
    """A ReLU whose gradient is 1 everywhere: the authors' fully-connected trainer does not mask its output error."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, kept."""
        return _UnmaskedReLU.apply(x) if self.training else x.clamp(min=0)


def output_activation(output_relu: str) -> list[nn.Module]:
    """The modules behind the last layer: a ReLU ("masked"), an `UnmaskedReLU` ("unmasked"), or none ("none").

    Raises InputError for any other word.
    """
    if output_relu == "masked":
        return [nn.ReLU()]
    if output_relu == "unmasked":
        return [UnmaskedReLU()]
    if output_relu == "none":
        return []
    raise InputError(f"model.output_relu={output_relu}: unknown, choose one of masked, unmasked, none")


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
