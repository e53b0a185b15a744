"""The spiking ResNet-19 on images brought to mean 0 and deviation 1, and what drives each of its layers."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from respike.layers.lif import States
from respike.networks.resnet19 import SpikingResNet19
from respike.networks.standardize import Standardize

Path = list[nn.Module]


class StandardizedResNet19(SpikingResNet19):
    """`SpikingResNet19` behind a `Standardize`. mean, std: one per channel (0 and 1 leave pixels as they are); chosen:
    arguments of `SpikingResNet19`, which see."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], **chosen: Any):
        super().__init__(**chosen)
        self.standardize = Standardize(mean, std)

    def spikes(self, images: Tensor, steps: int | None = None, states: States | None = None) -> Tensor:
        """As in `SpikingResNet19`, of images in [0, 1]."""
        return super().spikes(self.standardize(images), steps, states)

    def synapses(self) -> dict[str, list[tuple[str, Path]]]:
        """By spiking layer, first to last: (source, modules from its spikes to the currents) of all that drives it.

        The source "input" is the image. An empty path is a shortcut that hands spikes on as they are.
        """
        found: dict[str, list[tuple[str, Path]]] = {"stem": [("input", [self.stem])]}
        before = "stem"
        for i, block in enumerate(self.blocks):
            first, last = f"block{i + 1}.1", f"block{i + 1}.2"
            shortcut = [] if block.shortcut is None else [block.shortcut]
            found |= {first: [(before, [block.conv1])], last: [(first, [block.conv2]), (before, shortcut)]}
            before = last
        found["fc1"] = [(before, [nn.AdaptiveAvgPool2d(1), nn.Flatten(), self.fc1])]
        return found | {"fc2": [("fc1", [self.fc2])]}
