"""Standardization of images as the first layer of a network."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from respike.errors import InputError

EPS = torch.finfo(torch.float32).tiny  # adds nothing to a variance; some versions of torch refuse 0


class Standardize(nn.BatchNorm2d):
    """(x - mean) / std per channel with constant mean and std, as a batch norm whose statistics never change.

    mean, std: one number per channel, for pixels in [0, 1]. Raises InputError unless there is one of each per channel and
    every std is above 0.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        if len(mean) != len(std) or min(std) <= 0:
            raise InputError(
                f"model.mean={list(mean)}, model.std={list(std)}: one of each per channel and std above 0 are needed"
            )
        super().__init__(len(mean), eps=EPS, affine=False)
        self.running_mean = torch.tensor(mean, dtype=torch.float32)
        self.running_var = torch.tensor(std, dtype=torch.float32) ** 2
        self.eval()

    def train(self, mode: bool = True) -> "Standardize":
        """Does nothing: the module stays in eval mode, because its statistics are constants."""
        return super().train(False)


class Standardized(nn.Module):
    """A network for images (B, C, H, W) in [0, 1]: `net` of (image - mean) / std."""

    def __init__(self, net: nn.Module, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.standardize, self.net = Standardize(mean, std), net

    def forward(self, images: Tensor) -> Tensor:
        """What `net` returns for the standardized images."""
        return self.net(self.standardize(images))


def standardized(net: nn.Module, mean: Sequence[float] | None, std: Sequence[float] | None) -> nn.Module:
    """The network behind the standardization that data.mean and data.std describe; the network itself if they are null."""
    return net if mean is None or std is None else Standardized(net, list(mean), list(std))
