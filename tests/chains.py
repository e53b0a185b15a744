"""Random chains for the exact mapping, with every combination of the operations that it folds, and images for them."""

import math

import torch
from hypothesis import strategies as st
from torch import nn

from respike.networks.mlp import MaskDropout

SIDE = 7


class Constant(nn.Module):
    """Multiplies by a constant, as `x * 0.5` in a forward does."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor


def _norm(kind, channels, random):
    norm = kind(channels, affine=bool(torch.rand((), generator=random) < 0.8))
    norm.running_mean.uniform_(-0.5, 0.5, generator=random)
    norm.running_var.uniform_(0.3, 2, generator=random)
    if norm.affine:
        norm.weight.data.uniform_(-1.5, 1.5, generator=random)
        norm.bias.data.uniform_(-0.5, 0.5, generator=random)
    return norm


def _filled(module, random):
    fan_in = module.weight[0].numel()
    module.weight.data.normal_(0.3 / fan_in, 1 / math.sqrt(fan_in), generator=random)
    if module.bias is not None:
        module.bias.data.uniform_(-0.3, 0.4, generator=random)
    return module


def _convolution(draw, random, maps, side):
    """A convolution, its ReLU and random operations around it: (modules, maps, side), or None if the side is too small."""
    kernel, padding, stride = (draw(st.sampled_from(values)) for values in ([1, 2, 3, 5], [0, 1, 2, "same"], [1, 2]))
    stride = 1 if padding == "same" else stride
    width, groups = 2 * draw(st.integers(1, 2)), 2 if maps % 2 == 0 and draw(st.booleans()) else 1
    conv = nn.Conv2d(maps, width, kernel, stride, padding, groups=groups, bias=draw(st.booleans()))
    front, back = ["norm", "norm", "pool"], ["norm", "norm", "pool", "padded pool", "dropout", "factor"]
    names = [*draw(st.permutations(front))[: draw(st.integers(0, 3))], "relu"]
    names += draw(st.permutations(back))[: draw(st.integers(0, 3))]
    made = {
        "norm": lambda: _norm(nn.BatchNorm2d, width, random),
        "pool": lambda: nn.MaxPool2d(2, 1),
        "padded pool": lambda: nn.MaxPool2d(3, 1, 1),
        "dropout": lambda: MaskDropout(0.25),
        "factor": lambda: Constant(-0.5),
        "relu": nn.ReLU,
    }
    modules = [_filled(conv, random), *(made[name]() for name in names)]
    pad = kernel - 1 if padding == "same" else 2 * padding
    side = (side + pad - kernel) // stride + 1 - names.count("pool")
    return (modules, width, side) if side >= 1 else None


def _linear(draw, random, n_in):
    width = draw(st.integers(2, 6))
    layers = [_filled(nn.Linear(n_in, width, bias=draw(st.booleans())), random)]
    layers += [_norm(nn.BatchNorm1d, width, random)] if draw(st.booleans()) else []
    layers.append(nn.ReLU())
    return layers + ([_norm(nn.BatchNorm1d, width, random)] if draw(st.booleans()) else []), width


@st.composite
def chains(draw, ends=("none", "relu", "softmax")):
    """Random (network, images, (p, q)): the network in float64 and eval mode, 12 images with pixels in [p, q]."""
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    maps, side = draw(st.integers(1, 3)), SIDE
    shape = (maps, side, side)
    layers = [_norm(nn.BatchNorm2d, maps, random)] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(0, 2))):
        block = _convolution(draw, random, maps, side)
        if block:
            layers, maps, side = layers + block[0], *block[1:]
    layers.append(nn.Flatten())
    n_in = maps * side**2
    for _ in range(draw(st.integers(0, 2))):
        more, n_in = _linear(draw, random, n_in)
        layers += more
    layers.append(_filled(nn.Linear(n_in, 4), random))
    layers += {"none": [], "relu": [nn.ReLU()], "softmax": [nn.Softmax(1)]}[draw(st.sampled_from(ends))]
    p, q = draw(st.sampled_from([(0.0, 1.0), (-3.0, 3.0), (-200.0, 200.0), (0.5, 0.75)]))
    images = torch.rand(12, *shape, dtype=torch.float64, generator=random) * (q - p) + p
    return nn.Sequential(*layers).double().eval(), images, (p, q)
