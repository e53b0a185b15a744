"""The directly trained spiking ResNet-19 of Zheng et al. 2021. Shapes: T time, B batch, C channel; x_TBCHW."""

import math
from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from respike.errors import InputError
from respike.layers.neuron_layer import NeuronLayer, States
from respike.layers.norm_neuron import NormNeuron
from respike.layers.over_time import over_time
from respike.layers.tdbn import TdBN, fold
from respike.layers.wide_rows import convolve
from respike.networks.standardize import Standardize
from respike.neurons.lif import LIF
from respike.neurons.neuron import Neuron

Path = list[nn.Module]

WIDTH = 128  # channels of the first stage; each later stage doubles the channels and halves height and width


def _conv(inputs: int, outputs: int, width: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, width, stride, padding=width // 2, bias=False)


class Block(nn.Module):
    """conv - tdBN - neurons - conv - tdBN, plus the shortcut (1x1 conv - tdBN if the shape changes), neurons after the sum.

    alpha: of the first tdBN; residual_alpha: of the second tdBN and of the tdBN in the shortcut.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        neuron: Neuron,
        alpha: float,
        residual_alpha: float,
        backend: str,
    ):
        super().__init__()
        v_th = neuron.threshold
        self.conv1 = _conv(inputs, outputs, 3, stride)
        self.fire1 = NormNeuron(neuron, TdBN(outputs, v_th, alpha), backend=backend)
        self.conv2 = _conv(outputs, outputs, 3)
        self.shortcut, shortcut_norm = None, None
        if stride != 1 or inputs != outputs:
            self.shortcut = _conv(inputs, outputs, 1, stride)
            shortcut_norm = TdBN(outputs, v_th, residual_alpha)
        self.fire2 = NormNeuron(neuron, TdBN(outputs, v_th, residual_alpha), shortcut_norm, backend)

    def forward(self, x: Tensor, states: States | None = None) -> Tensor:
        """Spikes (T, B, C, H, W) -> spikes (T, B, C', H', W')."""
        y = self.fire1(over_time(partial(convolve, self.conv1), x), states=states)
        y = over_time(partial(convolve, self.conv2), y)
        shortcut = x if self.shortcut is None else over_time(self.shortcut, x)
        return self.fire2(y, shortcut, states=states)


class SpikingResNet19(nn.Module):
    """Images (B, C, H, W), a constant current at each of T steps -> logits (B, classes): mean output spikes per step.

    steps: T; stem: channels of the first convolution (128 in the paper, 64 in the MNIST repository); width_mult: factor on
    the channels of all convolutions; blocks: per stage; hidden: units of the first FC layer; input_shape: (C, H, W); neuron: of
    all layers, `LIF()` by default; residual_alpha: of the second tdBN and the shortcut's tdBN in each block; alpha: of all
    other tdBNs; backend: of every `NormNeuron`; mean, std: of the pixels, one per channel, by which images are standardized
    (None: not at all). 12,629,706 parameters by default. Raises InputError for a network that cannot be built.
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
        neuron: Neuron | None = None,
        alpha: float = 1.0,
        residual_alpha: float = 1 / math.sqrt(2),
        backend: str = "auto",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ):
        super().__init__()
        _check(steps, stem, width_mult, blocks, hidden, classes, input_shape, alpha, residual_alpha)
        neuron = LIF() if neuron is None else neuron
        self.steps, self.strides = steps, len(blocks) - 1
        self.standardize = Standardize(mean or (), std or ()) if mean or std else nn.Identity()
        channels = [round(stem * width_mult), *(round(WIDTH * 2**stage * width_mult) for stage in range(len(blocks)))]
        self.stem = _conv(input_shape[0], channels[0], 3)
        self.fire = NormNeuron(neuron, TdBN(channels[0], neuron.threshold, alpha), backend=backend)
        self.blocks = nn.ModuleList()
        for stage, (inputs, outputs) in enumerate(pairwise(channels)):
            stride = 1 if stage == 0 else 2  # of the first block of the stage
            self.blocks.append(Block(inputs, outputs, stride, neuron, alpha, residual_alpha, backend))
            for _ in range(blocks[stage] - 1):
                self.blocks.append(Block(outputs, outputs, 1, neuron, alpha, residual_alpha, backend))
        self.fc1, self.fire1 = nn.Linear(channels[-1], hidden), NeuronLayer(neuron)
        self.fc2, self.fire2 = nn.Linear(hidden, classes), NeuronLayer(neuron)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")  # as the repository does
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) -> logits (B, classes) in [0, 1]."""
        return self.spikes(images).mean(0)

    def spikes(self, images: Tensor, steps: int | None = None, states: States | None = None) -> Tensor:
        """Output spikes (T, B, classes) of images (B, C, H, W).

        steps: T, by default the network's. states: a dict, empty before the first call, that keeps the neurons' states, so that
        several calls for some steps each give the spikes of one call for all (in eval mode only: in training, tdBN takes the
        statistics of all steps of a call).
        """
        _check_size(images.shape[1:], self.strides)
        x = self.fire(self.stem(self.standardize(images))[None], steps=steps or self.steps, states=states)
        for block in self.blocks:
            x = block(x, states)
        dtype = self.fc1.weight.dtype  # autocast computes products in fewer bits; potentials keep all
        x = x.mean((-2, -1), dtype=dtype)  # (T, B, C)
        x = self.fire1(self.fc1(x).to(dtype), states)
        return self.fire2(self.fc2(x).to(dtype), states)

    def spiking_layers(self) -> dict[str, nn.Module]:
        """The modules whose outputs are spikes (T, B, ...), by name, first to last: 19 by default."""
        layers = {"stem": self.fire}
        for i, block in enumerate(self.blocks):
            layers |= {f"block{i + 1}.1": block.fire1, f"block{i + 1}.2": block.fire2}
        return layers | {"fc1": self.fire1, "fc2": self.fire2}

    def synapses(self) -> dict[str, list[tuple[str, Path]]]:
        """By spiking layer, first to last: (source, modules from its spikes to the currents) of each connection into it.

        The source "input" is the image. An empty list of modules is an identity shortcut.
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
        norm = net.fire.norm
        assert isinstance(norm, TdBN), "the network is folded already"
        net.stem, net.fire.norm = fold(net.stem, norm), nn.Identity()
        for block in net.blocks:
            block.conv1, block.fire1.norm = fold(block.conv1, block.fire1.norm), nn.Identity()
            block.conv2, block.fire2.norm = fold(block.conv2, block.fire2.norm), nn.Identity()
            if block.shortcut is not None:
                block.shortcut = fold(block.shortcut, block.fire2.shortcut_norm)
                block.fire2.shortcut_norm = None
        return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as above


def _check(
    steps: int, stem: int, width_mult: float, blocks: Sequence[int], hidden: int, classes: int,
    input_shape: Sequence[int], alpha: float, residual_alpha: float,
) -> None:  # fmt: skip
    """Raises InputError for a network that cannot be built."""
    for name, value in (("steps", steps), ("stem", stem), ("hidden", hidden), ("classes", classes)):
        if not (isinstance(value, int) and value >= 1):
            raise InputError(f"model.{name}={value}: a whole number of at least 1 is needed, as in model.{name}=2")
    for name, factor in (("alpha", alpha), ("residual_alpha", residual_alpha)):
        if not factor > 0:
            raise InputError(f"model.{name}={factor}: a factor above 0 is needed, as in model.{name}=1")
    if not (len(blocks) and all(isinstance(count, int) and count >= 1 for count in blocks)):
        raise InputError(f"model.blocks={list(blocks)}: whole numbers, one or more blocks per stage, as in [3,3,2]")
    if not min(stem, WIDTH) * width_mult >= 1:
        raise InputError(
            f"model.width_mult={width_mult}: one or more of {min(stem, WIDTH)} channels must be left, "
            "as in model.width_mult=0.25"
        )
    _check_size(input_shape, len(blocks) - 1)


def _check_size(shape: Sequence[int], strides: int) -> None:
    """Raises InputError for images (C, H, W) that are too small for this many strides of 2."""
    least = 2**strides
    if len(shape) != 3 or shape[0] < 1 or min(shape[1:]) < least:
        raise InputError(
            f"images of shape {list(shape)}: channels, height and width are needed, the last two of {least} or more "
            f"pixels for {strides} strides of 2, as in model.input_shape=[1,28,28]"
        )
