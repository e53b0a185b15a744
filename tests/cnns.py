"""Random convolutional networks in the forms that people write, for hypothesis: (network, images)."""

import math

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import nn

import respike  # noqa: F401  first: see system/torchvision_guard.py

from torchvision import transforms  # isort: skip

RELUS = {
    "nn.ReLU": lambda: nn.ReLU(),
    "in place": lambda: nn.ReLU(inplace=True),
    "F.relu": lambda: Function(F.relu),
    "torch.relu": lambda: Function(torch.relu),
    "method": lambda: Function(lambda x: x.relu()),
    "clamp_min": lambda: Function(lambda x: x.clamp(min=0)),
    "ReLU6": lambda: nn.ReLU6(),
    "F.relu6": lambda: Function(F.relu6),
    "Hardtanh": lambda: nn.Hardtanh(0, 0.5),
    "clamp": lambda: Function(lambda x: torch.clamp(x, 0, 0.25)),
    "clamp method": lambda: Function(lambda x: x.clamp(0.0, 2.0)),
}
UNCAPPED = list(RELUS)[:6]
DEVIATION = (0.25, 0.3, 0.2)
MEAN = (0.5, 0.4, 0.55)


class Function(nn.Module):
    """A function as a module that torch.fx traces into."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Buffers(nn.Module):
    """(x - mean) / std, from buffers."""

    def __init__(self, channels):
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN[:channels]).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(DEVIATION[:channels]))

    def forward(self, x):
        return (x - self.mean) / self.std[None, :, None, None]


class Cast(nn.Module):
    """The same, with tensors that are cast to the images."""

    def __init__(self, channels):
        super().__init__()
        self.mean, self.std = torch.tensor(MEAN[:channels]), torch.tensor(DEVIATION[:channels])

    def forward(self, x):
        return x.sub(self.mean.to(x).view(-1, 1, 1)).div(self.std.to(x.device, x.dtype)[:, None, None])


class Normalize(nn.Module):
    """A class that people write, of the name of torchvision's."""

    def __init__(self, channels):
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN[:channels], dtype=torch.float64).view(1, -1, 1, 1))
        self.register_buffer("sigma", torch.tensor(DEVIATION[:channels], dtype=torch.float64).view(1, -1, 1, 1))

    def forward(self, x):
        return (x - self.mean) / self.sigma


FRONTS = {
    "nothing": lambda channels, random: nn.Identity(),
    "buffers": lambda channels, random: Buffers(channels),
    "cast": lambda channels, random: Cast(channels),
    "module of torchvision": lambda channels, random: transforms.Normalize(MEAN[:channels], DEVIATION[:channels]),
    "module of that name": lambda channels, random: Normalize(channels),
    "numbers": lambda channels, random: Function(lambda x: (x - 0.5) / 0.25),
    "range": lambda channels, random: Function(lambda x: 2 * x - 1),
    "other way": lambda channels, random: Function(lambda x: 1 - x),
    "batch norm": lambda channels, random: norm(channels, random),
    "pool": lambda channels, random: nn.AvgPool2d(2, 1),
    "max-pool": lambda channels, random: nn.MaxPool2d(2, 1),
}


def norm(channels, random, rising=False):
    """A batch norm with statistics, and a weight of any sign unless it is rising."""
    made = nn.BatchNorm2d(channels, affine=bool(torch.rand((), generator=random) < 0.8))
    made.running_mean.uniform_(-0.5, 0.5, generator=random)
    made.running_var.uniform_(0.3, 2, generator=random)
    if made.affine:
        made.weight.data.uniform_(0.3 if rising else -0.7, 1.5, generator=random)
        made.bias.data.uniform_(-0.5, 0.5, generator=random)
    return made


def filled(module, random):
    """A layer with random weights that keep the size of activations."""
    fan_in = module.weight[0].numel()
    module.weight.data.normal_(0.4 / fan_in, 1 / math.sqrt(fan_in), generator=random)
    if module.bias is not None:
        module.bias.data.uniform_(-0.3, 0.4, generator=random)
    return module


class Residual(nn.Module):
    """relu(body(x) + shortcut(x)), or the sum alone."""

    def __init__(self, body, shortcut, relu, in_place):
        super().__init__()
        self.body, self.shortcut, self.relu, self.in_place = body, shortcut, relu, in_place

    def forward(self, x):
        shortcut = self.shortcut(x)
        x = self.body(x)
        if self.in_place:
            x += shortcut
        else:
            x = torch.add(x, shortcut)
        return self.relu(x)


class OptionA(nn.Module):
    """Every second place, and zeros as further channels."""

    def __init__(self, stride, before, after):
        super().__init__()
        self.stride, self.padding = stride, (0, 0, 0, 0, before, after)

    def forward(self, x):
        return F.pad(x[:, :, :: self.stride, :: self.stride], self.padding, "constant", 0)


class Branches(nn.Module):
    """The concatenation of branches, one of which may be the input itself."""

    def __init__(self, branches, axis):
        super().__init__()
        self.branches, self.axis = nn.ModuleList(branches), axis

    def forward(self, x):
        return torch.cat([branch(x) for branch in self.branches], self.axis)


class Dense(nn.Module):
    """DenseNet: every layer reads the concatenation of all currents before it."""

    def __init__(self, layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x):
        seen = [x]
        for layer in self.layers:
            seen.append(layer(torch.cat(seen, dim=1)))
        return torch.cat(seen, 1)


class Places(nn.Module):
    """Flattening and pooling at the end of the maps."""

    def __init__(self, form):
        super().__init__()
        self.form, self.pool = form, nn.AdaptiveAvgPool2d((1, 1))

    def forward(self, x):
        if self.form == "mean":
            return x.mean((2, 3))
        if self.form == "mean, negative":
            return torch.mean(x, dim=[-1, -2])
        if self.form == "mean, kept":
            return x.mean([2, 3], keepdim=True).flatten(1)
        if self.form == "module":
            return torch.flatten(self.pool(x), 1)
        if self.form == "function":
            return F.adaptive_avg_pool2d(x, 1).view(x.shape[0], -1)
        if self.form == "size":
            x = F.avg_pool2d(x, (x.size(2), x.size()[3]))
            return x.view(x.size(0), -1)
        if self.form == "maximum":
            return F.max_pool2d(x, (x.size(2), x.size(3))).flatten(1)
        if self.form == "squeeze":
            return F.adaptive_avg_pool2d(x, 1)[:, :, 0, 0]
        return x.reshape(x.size(0), -1)


PLACES = ["mean", "mean, negative", "mean, kept", "module", "function", "size", "squeeze", "none"]


class Maker:
    """Draws blocks of maps: keeps the channels and the side that the blocks so far end with."""

    def __init__(self, draw, channels, side):
        self.draw, self.channels, self.sides = draw, channels, (side, side + 1)
        self.random = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def one_of(self, options):
        return self.draw(st.sampled_from(list(options)))

    def relu(self, uncapped=False):
        return RELUS[self.one_of(UNCAPPED if uncapped else RELUS)]()

    def conv(self, n_in, n_out, keep=False):
        """A convolution, of one stride and the same size if `keep`; with a batch norm behind it, or not."""
        kernel = self.one_of([1, 3, 3, (1, 3)] if keep else [1, 2, 3, (3, 2)])
        depthwise = n_out % n_in == 0 and self.one_of([False, False, True])
        even = n_in % 2 == n_out % 2 == 0 and self.one_of([False, True])
        groups = n_in if depthwise else 2 if even else 1
        dilation, stride, padding = (
            (1, 1, "same") if keep else (self.one_of([1, 1, 2]), self.one_of([1, 1, 2]), self.one_of([0, 1, 1, 2]))
        )
        mode = self.one_of(["zeros"] * 5 + ["reflect", "circular"]) if padding == 1 and min(self.sides) > 1 else "zeros"
        made = nn.Conv2d(
            n_in, n_out, kernel, stride, padding, dilation, groups, bias=self.one_of([False, True]), padding_mode=mode
        )
        return nn.Sequential(
            filled(made, self.random), *([norm(n_out, self.random)] if self.one_of([False, True]) else [])
        )

    def width(self):
        return self.draw(st.integers(2, 6))

    def fitted(self, block, channels=None):
        """The block, if the maps are large enough for it, else nothing."""
        try:
            with torch.no_grad():
                shape = block.eval()(torch.zeros(2, self.channels, *self.sides)).shape
        except RuntimeError:
            return nn.Identity()
        if min(shape[2:]) < 1:
            return nn.Identity()
        self.channels, self.sides = shape[1], tuple(shape[2:])
        return block

    def plain(self):
        n = self.width()
        return self.fitted(nn.Sequential(self.conv(self.channels, n), self.relu()))

    def norm_behind(self):
        n = self.width()
        return self.fitted(
            nn.Sequential(self.conv(self.channels, n), self.relu(), norm(n, self.random), self.conv(n, n), self.relu())
        )

    def separable(self):
        """A linear bottleneck: no ReLU at the end."""
        n, wide = self.width(), 2 * self.channels
        body = nn.Sequential(
            self.conv(self.channels, wide, keep=True), self.relu(), self.conv(wide, wide, keep=True), self.relu(),
            self.conv(wide, n, keep=True),
        )  # fmt: skip
        if n == self.channels and self.one_of([False, True]):
            return self.fitted(Residual(body, nn.Identity(), nn.Identity(), False))
        return self.fitted(nn.Sequential(body, *([self.relu()] if self.one_of([False, True]) else [])))

    def residual(self):
        kind, n, m = self.one_of(["identity", "projection", "option A"]), self.width(), self.channels
        stride = 1
        if kind == "identity":
            n, shortcut = m, nn.Identity()
        elif kind == "option A":
            stride, before, after = self.one_of([1, 2]), self.one_of([0, 1]), self.one_of([0, 2])
            n, shortcut = m + before + after, OptionA(stride, before, after)
        else:
            stride = self.one_of([1, 2])
            shortcut = filled(nn.Conv2d(m, n, 1, stride, bias=False), self.random)
            shortcut = nn.Sequential(shortcut, norm(n, self.random)) if self.one_of([False, True]) else shortcut
        first = filled(nn.Conv2d(m, n, 3, stride, 1, bias=False), self.random)
        body = nn.Sequential(first, norm(n, self.random), self.relu(), self.conv(n, n, keep=True))
        relu = self.relu() if self.one_of([True, True, False]) else nn.Identity()
        return self.fitted(Residual(body, shortcut, relu, self.one_of([False, True])))

    def fire(self):
        """SqueezeNet, Inception: a concatenation of ReLU outputs."""
        n, m = self.width(), self.channels
        branches = [
            nn.Sequential(self.conv(m, n, keep=True), self.relu()),
            nn.Sequential(self.conv(m, 2, keep=True), self.relu()),
        ]
        if self.one_of([False, True]):
            branches.append(nn.Sequential(nn.MaxPool2d(3, 1, 1), self.conv(m, 2, keep=True), self.relu()))
        if self.one_of([False, True]):
            branches.append(nn.Identity())
        return self.fitted(Branches(branches, self.one_of([1, -3])))

    def dense(self):
        """DenseNet: a concatenation of currents, with a batch norm and a ReLU for every reader."""
        m, n = self.channels, self.one_of([1, 2])
        layers = [
            nn.Sequential(norm(m + i * n, self.random), self.relu(), self.conv(m + i * n, n, keep=True)) for i in (0, 1)
        ]
        end = m + 2 * n
        behind = self.one_of(["relu", "norm", "norm, conv, pool", "conv"])
        tail = {
            "relu": lambda: [self.relu()],
            "norm": lambda: [norm(end, self.random), self.relu()],
            "norm, conv, pool": lambda: [
                norm(end, self.random),
                self.relu(),
                self.conv(end, m, keep=True),
                nn.AvgPool2d(2, 1),
            ],
            "conv": lambda: [self.conv(end, m, keep=True), self.relu()],
        }[behind]()
        return self.fitted(nn.Sequential(Dense(layers), *tail))

    def pooled(self):
        """A max-pool: behind a ReLU, in front of it, behind a batch norm or between it and the ReLU."""
        kernel, stride, padding, dilation = (
            self.one_of([2, 3, (2, 3)]),
            self.one_of([None, 1, 2]),
            self.one_of([0, 1]),
            self.one_of([1, 1, 2]),
        )
        ceil, n = self.one_of([False, True]), self.width()
        pool = nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=ceil)
        if self.one_of([False, True]):
            pool = Function(lambda x: F.max_pool2d(x, kernel, stride, padding, dilation, ceil_mode=ceil))
        conv = self.conv(self.channels, n, keep=True)
        order = self.one_of(["behind", "in front", "norm between", "behind the norm", "twice", "no ReLU"])
        middle = {
            "behind": lambda: [self.relu(), pool],
            "in front": lambda: [pool, self.relu()],
            "norm between": lambda: [pool, norm(n, self.random), self.relu()],
            "behind the norm": lambda: [self.relu(), norm(n, self.random), pool],
            "twice": lambda: [self.relu(), pool, nn.MaxPool2d(2, 1)],
            "no ReLU": lambda: [pool],
        }[order]()
        return self.fitted(nn.Sequential(conv, *middle))

    def averaged(self):
        n = self.width()
        pool = self.one_of(
            [
                nn.AvgPool2d(2),
                nn.AvgPool2d(3, 2, 1),
                nn.AvgPool2d((1, 2), 1),
                nn.AvgPool2d(3, 1, 1),
                nn.AvgPool2d(3, 2, ceil_mode=True),
                nn.AvgPool2d(3, 2, 1, count_include_pad=False),
                nn.AdaptiveAvgPool2d((4, 3)),
                nn.AdaptiveAvgPool2d((11, 7)),
                Function(lambda x: F.avg_pool2d(x, 2)),
            ]
        )
        relu = self.relu()
        order = self.one_of(["behind", "in front", "both", "behind a factor"])
        factor = self.one_of([-0.5, 0.25, 3])
        middle = {
            "behind": [relu, pool],
            "in front": [pool, relu],
            "both": [pool, relu, nn.AvgPool2d(2, 1)],
            "behind a factor": [relu, Function(lambda x: factor * x), pool],
        }[order]
        return self.fitted(nn.Sequential(self.conv(self.channels, n, keep=True), *middle))

    def nothing(self):
        return self.one_of(
            [nn.Dropout(0.3), nn.Dropout2d(0.3), nn.Identity(), Function(lambda x: F.dropout(x, 0.5, False))]
        )


BLOCKS = [
    "plain",
    "norm_behind",
    "separable",
    "residual",
    "residual",
    "fire",
    "dense",
    "pooled",
    "pooled",
    "averaged",
    "nothing",
]


@st.composite
def cnns(draw, blocks=tuple(BLOCKS), most=4, side=9):
    """Random (network, images): the network in float64 and eval mode, 5 images with pixels in [0, 1]."""
    channels = draw(st.sampled_from([1, 2, 3]))
    maker = Maker(draw, channels, side)
    front = maker.fitted(FRONTS[maker.one_of(FRONTS)](channels, maker.random))
    body = [
        getattr(maker, name)()
        for name in [maker.one_of(["plain", *blocks]), *draw(st.lists(st.sampled_from(blocks), max_size=most - 1))]
    ]
    if maker.one_of([False, False, False, True]):  # no Linear: the output is a pool of maps, one for each class
        last = filled(nn.Conv2d(maker.channels, 4, 1), maker.random)
        body.append(nn.Sequential(last, *([maker.relu()] if maker.one_of([False, True]) else [])))
        body.append(Places(maker.one_of([*PLACES[:-1], "maximum"])))
        end = [nn.Softmax(1)] if maker.one_of([False, True]) else []
        return nn.Sequential(front, *body, *end).double().eval(), images(maker, channels, side)
    places = Places(maker.one_of(PLACES))
    with torch.no_grad():
        features = places(torch.zeros(2, maker.channels, *maker.sides)).shape[1]
    head = [filled(nn.Linear(features, 4, bias=maker.one_of([False, True])), maker.random)]
    if maker.one_of([False, False, True]):
        head = [
            filled(nn.Linear(features, 5), maker.random),
            nn.ReLU(),
            nn.Dropout(0.5),
            filled(nn.Linear(5, 4), maker.random),
        ]
    end = maker.one_of([[], [], [nn.Softmax(1)], [nn.LogSoftmax(dim=-1)], [nn.Dropout(0.5)], [nn.ReLU()]])
    net = nn.Sequential(front, *body, places, *head, *end).double().eval()
    return net, images(maker, channels, side)


def images(maker, channels, side):
    return torch.rand(5, channels, side, side + 1, dtype=torch.float64, generator=maker.random)
