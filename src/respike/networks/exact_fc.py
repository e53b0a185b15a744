"""The fully-connected network of the exact mapping (Stanojevic et al. 2023): 784-600-10."""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from respike.errors import InputError
from respike.networks.dropout import Dropout, dropout_shares


class ExactFC(nn.Sequential):
    """Linear layers with biases and ReLUs between them; images (B, C, H, W) are flattened to (B, C*H*W).

    sizes: neurons per layer, input first; dropout: share of the pixels and of hidden activations dropped in
    training, as in `dropout_shares`.
    """

    def __init__(self, sizes: Sequence[int] = (784, 600, 10), dropout: Dropout = 0.0):
        if len(sizes) < 2 or min(sizes) < 1:
            raise InputError(f"model.sizes={list(sizes)}: two or more are needed, as in model.sizes=[784,600,10]")
        _, _, share = dropout_shares(dropout)
        layers: list[nn.Module] = [nn.Flatten(), *_dropout(share)]
        for n_in, n_out in pairwise(sizes[:-1]):
            layers += [nn.Linear(n_in, n_out), nn.ReLU(), *_dropout(share)]
        super().__init__(*layers, nn.Linear(sizes[-2], sizes[-1]))


def _dropout(share: float) -> list[nn.Module]:
    return [nn.Dropout(share)] if share else []
