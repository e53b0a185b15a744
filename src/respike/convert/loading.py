"""Reads a saved spiking network of either kind."""

import os

import torch

from respike.convert.exact.ttfs_net import TTFSNet
from respike.convert.rate.rate_snn import RateSNN
from respike.convert.saving import network_from_content, read_content


def load_snn(path: str | os.PathLike, device: torch.device | str = "cpu") -> RateSNN | TTFSNet:
    """The spiking network in a file written by `RateSNN.save` or `TTFSNet.save`, on the given device.

    Raises InputError for a file that is missing, damaged, of another kind, or holds pickled Python objects.
    """
    return network_from_content(read_content(path), [RateSNN, TTFSNet], str(path), device)
