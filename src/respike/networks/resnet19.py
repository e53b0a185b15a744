"""The directly trained spiking ResNet-19 of Zheng et al. 2021. Shapes: T time, B batch, C channel; x_TBCHW."""

import math
from collections.abc import Sequence
from copy import deepcopy
from itertools import pairwise

import torch
from torch import Tensor, nn

from respike.errors import InputError
from respike.layers.lif import LIFLayer, States
from respike.layers.norm_lif import NormLIF
from respike.layers.over_time import over_time
from respike.layers.tdbn import TdBN, fold
from respike.networks.standardize import Standardize
from respike.neurons.lif import LIF
from respike.neurons.surrogate import Rectangle, Surrogate

Path = list[nn.Module]

WIDTH = 128  # channels of the first stage; every later one has twice as many and half the sides


def _conv(inputs: int, outputs: int, width: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, width, stride, padding=width // 2, bias=False)


class Block(nn.Module):
    """conv - tdBN - LIF - conv - tdBN, plus the shortcut (1x1 conv - tdBN where the shape changes), LIF after the sum."""

    def __init__(self, inputs: int, outputs: int, stride: int, neuron: LIF, alphas: tuple[float, float], backend: str):
        super().__init__()
        changes = stride != 1 or inputs != outputs
        norms = [TdBN(outputs, neuron.v_th, alpha) for alpha in (*alphas, alphas[1])]
        self.conv1, self.fire1 = _conv(inputs, outputs, 3, stride), NormLIF(neuron, norms[0], backend=backend)
        self.conv2 = _conv(outputs, outputs, 3)
        self.shortcut = _conv(inputs, outputs, 1, stride) if changes else None
        self.fire2 = NormLIF(neuron, norms[1], norms[2] if changes else None, backend)

    def forward(self, x: Tensor, states: States | None = None) -> Tensor:
        """Spikes (T, B, C, H, W) -> spikes (T, B, C', H', W')."""
        y = over_time(self.conv2, self.fire1(over_time(self.conv1, x), states=states))
        return self.fire2(y, x if self.shortcut is None else over_time(self.shortcut, x), states=states)


class SpikingResNet19(nn.Module):
    """Images (B, C, H, W), a constant current at each of T steps -> logits (B, classes): mean output spikes per step.

    steps: T; stem: channels of the first convolution (128 in the paper, 64 in the MNIST repository); width_mult: times all
    channels; blocks: per stage; hidden: units of the first FC layer; input_shape: (C, H, W); mean, std: of the pixels, one
    per channel, which are brought to 0 and 1 first (None: they stay as they are); v_th, tau, surrogate (a
    rectangle of a = 0.5 by default), reset, detach_reset: of every neuron, as in `LIF`; alpha, residual_alpha: of the tdBNs,
    the second on each block's second norm and its shortcut's; backend: of every `NormLIF`. 12,629,706 parameters by default.
    """

    def __init__(
        self,
        steps: int = 2,
        stem: int = 64,
        width_mult: float = 1.0,
        blocks: Sequence[int] = (3, 3, 2),
        hidden: int = 256,
        classes: int = 10,
        input_shape: Sequence[int] = (1, 28, 28),
        v_th: float = 0.4,
        tau: float = 0.25,
        surrogate: Surrogate | None = None,
        reset: str = "zero",
        detach_reset: bool = False,
        alpha: float = 1.0,
        residual_alpha: float = 1 / math.sqrt(2),
        backend: str = "auto",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ):
        super().__init__()
        _check(steps, stem, width_mult, blocks, hidden, classes, input_shape, alpha, residual_alpha)
        neuron = LIF(v_th, tau, surrogate or Rectangle(), reset, detach_reset)
        self.steps, self.strides = steps, len(blocks) - 1
        self.standardize = Standardize(mean or (), std or ()) if mean or std else nn.Identity()
        channels = [round(stem * width_mult), *(round(WIDTH * 2**stage * width_mult) for stage in range(len(blocks)))]
        self.stem = _conv(input_shape[0], channels[0], 3)
        self.fire = NormLIF(neuron, TdBN(channels[0], v_th, alpha), backend=backend)
        self.blocks = nn.ModuleList(
            Block(
                outputs if i else inputs, outputs, 2 if stage and not i else 1, neuron, (alpha, residual_alpha), backend
            )
            for stage, (inputs, outputs) in enumerate(pairwise(channels))
            for i in range(blocks[stage])
        )
        self.fc1, self.fire1 = nn.Linear(channels[-1], hidden), LIFLayer(neuron)
        self.fc2, self.fire2 = nn.Linear(hidden, classes), LIFLayer(neuron)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")  # as the repository does
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) -> logits (B, classes) in [0, 1]."""
        return self.spikes(images).mean(0)

    def spikes(self, images: Tensor, steps: int | None = None, states: States | None = None) -> Tensor:
        """Output spikes (T, B, classes) of images (B, C, H, W).

        steps: other than the network's; states: a dict, empty before the first step, through which calls for some steps
        each are as one call for all (in eval mode: in training tdBN looks at all steps of a call).
        """
        _check_size(images.shape[1:], self.strides)
        x = self.fire(self.stem(self.standardize(images))[None], steps=steps or self.steps, states=states)
        for block in self.blocks:
            x = block(x, states)
        exact = self.fc1.weight.dtype  # of potentials, also where products have fewer bits
        x = x.mean((-2, -1), dtype=exact)  # (T, B, C)
        return self.fire2(self.fc2(self.fire1(self.fc1(x).to(exact), states)).to(exact), states)

    def spiking_layers(self) -> dict[str, nn.Module]:
        """The 19 modules whose outputs are spikes (T, B, ...), by name, first to last."""
        layers = {"stem": self.fire}
        for i, block in enumerate(self.blocks):
            layers |= {f"block{i + 1}.1": block.fire1, f"block{i + 1}.2": block.fire2}
        return layers | {"fc1": self.fire1, "fc2": self.fire2}

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

    def folded(self) -> "SpikingResNet19":
        """A copy for inference, in eval mode, with every tdBN folded into its convolution."""
        net = deepcopy(self).eval()
        net.stem, net.fire.norm = fold(net.stem, net.fire.norm), nn.Identity()
        for block in net.blocks:
            block.conv1, block.fire1.norm = fold(block.conv1, block.fire1.norm), nn.Identity()
            block.conv2, block.fire2.norm = fold(block.conv2, block.fire2.norm), nn.Identity()
            if block.shortcut is not None:
                block.shortcut = fold(block.shortcut, block.fire2.shortcut_norm)
                block.fire2.shortcut_norm = None
        return net.to(memory_format=torch.channels_last)


def _check(
    steps: int, stem: int, width_mult: float, blocks: Sequence[int], hidden: int, classes: int,
    input_shape: Sequence[int], alpha: float, residual_alpha: float,
) -> None:  # fmt: skip
    """Raises InputError for a network that cannot be built."""
    for name, value in (("steps", steps), ("stem", stem), ("hidden", hidden), ("classes", classes)):
        if not (isinstance(value, int) and value >= 1):
            raise InputError(f"model.{name}={value}: a whole number of at least 1 is needed, as in model.{name}=2")
    for name, value in (("alpha", alpha), ("residual_alpha", residual_alpha)):
        if not value > 0:
            raise InputError(f"model.{name}={value}: a factor above 0 is needed, as in model.{name}=1")
    if not (len(blocks) and all(isinstance(count, int) and count >= 1 for count in blocks)):
        raise InputError(f"model.blocks={list(blocks)}: whole numbers, one or more blocks per stage, as in [3,3,2]")
    if not min(stem, WIDTH) * width_mult >= 1:
        raise InputError(
            f"model.width_mult={width_mult}: one or more of {min(stem, WIDTH)} channels must be left, "
            "as in model.width_mult=0.25"
        )
    _check_size(input_shape, len(blocks) - 1)


def _check_size(shape: Sequence[int], strides: int) -> None:
    """Raises InputError for images (C, H, W) that have no pixels left after so many strides of 2."""
    least = 2**strides
    if len(shape) != 3 or shape[0] < 1 or min(shape[1:]) < least:
        raise InputError(
            f"images of shape {list(shape)}: channels, height and width are needed, the last two of {least} or more "
            f"pixels for {strides} strides of 2, as in model.input_shape=[1,28,28]"
        )
