"""What the exact mapping computes with between two ReLUs: values made of spikes, and sums of synapses that read them.

Operations of the form x -> kappa x + shift per channel are `Affine`. C channels of a value, K channels of the spikes that it is
computed from.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from respike.convert.graph.nodes import Node, Weighted


@dataclass(frozen=True)
class Affine:
    """x -> kappa x + shift; kappa (K,); shift (C,), or (C, H, W) where zero padding has none."""

    kappa: Tensor
    shift: Tensor

    def shift_map(self, shape: torch.Size) -> Tensor:
        """The shift at each place of a value of this shape."""
        return self.shift.view(-1, *[1] * (len(shape) - 1)).expand(shape) if self.shift.ndim == 1 else self.shift


@dataclass(frozen=True)
class Branch:
    """Spikes of one source on their way to synapses. steps: what selects or copies them; channels: their number K behind."""

    source: str
    steps: tuple[Node, ...]
    channels: int

    def then(self, step: Node, channels: int) -> "Branch":
        """The branch with one more step."""
        return Branch(self.source, (*self.steps, step), channels)


@dataclass(frozen=True)
class Spikes:
    """A value y_c = sum of kappa_k x_k over the channels k with index_k = c, plus shift_c; x are the spikes of all branches.

    name: of its node. affine: None for kappa = 1 without shift; index (K,): None for k = c. share (K,): part of one
    multiply-accumulate of the ReLU network for which a connection to k stands; None for 1.
    """

    name: str
    branches: tuple[Branch, ...]
    affine: Affine | None = None
    index: Tensor | None = None
    share: Tensor | None = None

    @property
    def channels(self) -> int:
        """K."""
        return sum(branch.channels for branch in self.branches)

    @property
    def is_sum(self) -> bool:
        """Whether several spikes are added in one of its channels."""
        return self.index is not None and len(self.index.unique()) < len(self.index)

    def explicit(self, shape: torch.Size, device: torch.device) -> tuple[Affine, Tensor, Tensor]:
        """affine, index and share, where they are None as well; shape (C, ...) of the value."""
        ones = torch.ones(self.channels, dtype=torch.float64, device=device)
        affine = self.affine or Affine(ones, ones.new_zeros(shape[0]))
        index = torch.arange(self.channels, device=device) if self.index is None else self.index
        return affine, index, ones if self.share is None else self.share

    def followed_by(self, later: Affine, name: str) -> "Spikes":
        """The value of node `name`, which applies an operation, (C,) each, to this one."""
        kappa, shift = later.kappa if self.index is None else later.kappa[self.index], later.shift
        if self.affine is not None:
            places = [1] * (self.affine.shift.ndim - 1)
            shift = later.kappa.view(-1, *places) * self.affine.shift + shift.view(-1, *places)
            kappa = kappa * self.affine.kappa
        return replace(self, name=name, affine=Affine(kappa, shift))


@dataclass(frozen=True)
class Term:
    """Spikes and the synapses that read them, with the bias. macs: of `TTFSLayer`, in the shape of the weights, or None."""

    branches: tuple[Branch, ...]
    module: Weighted
    macs: Tensor | None = None


@dataclass(frozen=True)
class Sum:
    """A value in front of a ReLU: the sum of several terms.

    name: of its first weighted layer; node: the last operation in it, an addition or that layer; behind: an operation that
    follows and cannot be folded.
    """

    name: str
    node: str
    terms: tuple[Term, ...]
    behind: str | None = None
