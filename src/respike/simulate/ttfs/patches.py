"""The inputs of single neurons of a convolution or a linear layer, gathered for chosen neurons only.

B images, F inputs of a neuron, R rows: neurons that share a row read the same inputs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Patches:
    """The inputs of the neurons of a layer reading leads (B, ...), zero-padded as its convolution pads.

    Padding is an input of value 0, which spikes at t_min.
    """

    def __init__(self, synapses: nn.Linear | nn.Conv2d, leads: Tensor):
        self.linear = isinstance(synapses, nn.Linear)
        if self.linear:
            self.fan_in = leads.shape[1]
            self.offsets = torch.arange(self.fan_in, device=leads.device)
            self.leads = leads.contiguous().view(-1)
            return
        leads = F.pad(leads, synapses._reversed_padding_repeated_twice)
        _, self.channels, self.height, self.width = leads.shape
        self.stride, self.groups = synapses.stride, synapses.groups
        axes = (self.channels // synapses.groups, *synapses.kernel_size)
        steps = (self.height * self.width, synapses.dilation[0] * self.width, synapses.dilation[1])
        c, y, x = (torch.arange(n, device=leads.device) * step for n, step in zip(axes, steps, strict=True))
        self.offsets = (c[:, None, None] + y[:, None] + x).flatten()  # (F,), in the order of a row of weights
        self.fan_in = len(self.offsets)
        self.leads = leads.contiguous().view(-1)

    def neurons(self, chosen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The P neurons chosen by a mask (B, ...N), sorted by row.

        Returns row keys, rows of the weights, and positions in the flattened mask, (P,) each. A row key is the offset of the
        row's first input.
        """
        places = chosen.reshape(-1).nonzero().flatten()
        if self.linear:
            return places // chosen.shape[1] * self.fan_in, places % chosen.shape[1], places
        maps, height, width = chosen.shape[1:]
        y, x = places // width % height, places % width
        c, b = places // (height * width) % maps, places // (maps * height * width)
        channel = b * self.channels + c // (maps // self.groups) * (self.channels // self.groups)
        keys = (channel * self.height + y * self.stride[0]) * self.width + x * self.stride[1]
        keys, order = keys.sort(stable=True)
        return keys, c[order], places[order]

    def rows(self, keys: Tensor) -> Tensor:
        """The leads of the inputs at each row key (R,): (R, F)."""
        return self.leads[keys[:, None] + self.offsets]
