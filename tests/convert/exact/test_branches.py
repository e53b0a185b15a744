"""Sums, concatenations and average pools in the exact mapping: the function stays, and all evaluators find the same spikes."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from respike.callbacks.simulate_ttfs import layer_of_modules
from respike.convert import TTFSNet, exact_map
from respike.convert.exact.mapping import b1_map
from respike.convert.exact.preprocessing import preprocess
from respike.errors import InputError
from respike.simulate.ttfs import simulate_ttfs
from respike.simulate.ttfs.potentials import potentials

RANGE = (-1.0, 2.0)
FEW = torch.rand(6, 2, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3 - 1


class Net(nn.Module):
    """A stem, `body` of its maps (4, 6, 6), and a linear layer of what it returns."""

    def __init__(self, body, maps=None, stem=True):
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1) if stem else None
        self.body = body
        self.head = None if maps is None else nn.Linear(maps, 3)

    def forward(self, x):
        x = self.body(x if self.stem is None else F.relu(self.stem(x)))
        return x if self.head is None else self.head(x.flatten(1))


class Residual(nn.Module):
    """relu(main(x) + shortcut(x)), each followed by `behind`."""

    def __init__(self, main, shortcut=None, behind=None):
        super().__init__()
        self.main, self.shortcut, self.behind = main, shortcut or nn.Identity(), behind or nn.Identity()

    def forward(self, x):
        return F.relu(self.behind(self.shortcut(x) + self.main(x)))


class Of(nn.Module):
    """Any function of a value and some modules."""

    def __init__(self, function, *modules):
        super().__init__()
        self.function, self.modules_ = function, nn.ModuleList(modules)

    def forward(self, x):
        return self.function(x, *self.modules_)


def conv(inputs, outputs, kernel=3, stride=1, padding="half", **options):
    padding = (kernel - 1) // 2 if padding == "half" else padding
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, **options)


def basic(inputs, outputs, stride=1, last=None):
    norm, other = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
    return nn.Sequential(conv(inputs, outputs, 3, stride), norm, nn.ReLU(), last or conv(outputs, outputs), other)


def option_a(x):
    return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 1))


def preactivation(x, first, norm1, second, norm2):
    h = first(x)
    return F.relu(norm2(h + second(F.relu(norm1(h)))))


def inception(x, narrow, wide, behind):
    pooled = F.avg_pool2d(x, 3, 1, 1)
    whole = torch.cat([F.relu(narrow(x)), F.relu(wide(pooled)), x], 1)
    return F.avg_pool2d(F.max_pool2d(F.relu(behind(F.max_pool2d(whole, 2, 1))), 2), 2)


def summed_spikes(x, first, norm, second):
    a = F.relu(first(x))
    return F.relu(second(0.5 * F.max_pool2d(a, 3, 1, 1) + norm(a) - 0.3))


class Named(nn.Module):
    """A convolution that two layers are made of, and a ReLU with the name that the second would get."""

    def __init__(self):
        super().__init__()
        self.h, self.norm, self.c, self.h_2 = conv(4, 4), nn.BatchNorm2d(4), conv(4, 4), nn.ReLU()

    def forward(self, x):
        h = self.h(x)
        return self.h_2(h + self.c(F.relu(self.norm(h))))


def mlp(x, first, second, third):
    a = F.relu(first(x.flatten(1)))
    return F.relu(third(F.relu(second(a))) + a[:, :6])


def shifted_pad(x, norm, behind):
    return F.relu(behind(F.pad(norm(x), (1, 0, 2, 1))))


NETS = {
    "identity": lambda: Net(nn.Sequential(Residual(basic(4, 4)), Residual(basic(4, 4)), nn.AvgPool2d(2)), 36),
    "norm behind the sum": lambda: Net(Residual(basic(4, 4), None, nn.BatchNorm2d(4)), 144),
    "pool behind the sum": lambda: Net(Residual(basic(4, 4), None, nn.MaxPool2d(2)), 36),
    "option A": lambda: Net(nn.Sequential(Residual(basic(4, 6, 2), Of(option_a)), nn.AdaptiveAvgPool2d(1)), 6),
    "projection": lambda: Net(
        Residual(basic(4, 6, 2), nn.Sequential(conv(4, 6, 1, 2, bias=False), nn.BatchNorm2d(6))), 54
    ),
    "3x3 projection": lambda: Net(Residual(basic(4, 6, 2), nn.Sequential(conv(4, 6, 3, 2), nn.BatchNorm2d(6))), 54),
    "average projection": lambda: Net(
        Residual(basic(4, 6, 2), nn.Sequential(nn.AvgPool2d(2), conv(4, 6, 1), nn.BatchNorm2d(6))), 54
    ),
    "other kernels": lambda: Net(Residual(basic(4, 4, 1, conv(4, 4, 5)), conv(4, 4, 3, dilation=2, padding=2)), 144),
    "even kernel": lambda: Net(Residual(basic(4, 4, 1, conv(4, 4, 2, padding="same")), conv(4, 4, 3)), 144),
    "strided sum": lambda: Net(Residual(conv(4, 4, 3, 2), conv(4, 4, 2, 2, 0)), 36),
    "bottleneck with groups": lambda: Net(
        Residual(nn.Sequential(conv(4, 6, 1), nn.ReLU(), conv(6, 6, 3, groups=2), nn.ReLU(), conv(6, 4, 1))), 144
    ),
    "depthwise": lambda: Net(Residual(basic(4, 4, 1, conv(4, 4, 3, groups=4))), 144),
    "preactivation": lambda: Net(
        Of(preactivation, conv(4, 4), nn.BatchNorm2d(4), conv(4, 4), nn.BatchNorm2d(4)), 144
    ),
    "inception": lambda: Net(Of(inception, conv(4, 2, 1), conv(4, 3), conv(9, 4)), 4),
    "sums of spikes": lambda: Net(Of(summed_spikes, conv(4, 4), nn.BatchNorm2d(4), conv(4, 6, groups=2)), 216),
    "linear": lambda: Net(Of(mlp, nn.Linear(144, 8), nn.Linear(8, 5), nn.Linear(5, 6)), 6),
    "padding": lambda: Net(Of(shifted_pad, nn.BatchNorm2d(4), conv(4, 4)), 252),
    "slices of a mean": lambda: Net(Of(lambda x: F.avg_pool2d(x, 2)[:, :4, 1:]), 24),
    "max-pool of rectified sums": lambda: Net(
        Of(lambda x, a: F.max_pool2d(F.relu(F.relu(a(x)) + F.avg_pool2d(x, 3, 1, 1)), 2), conv(4, 4)), 36
    ),
    "names": lambda: Net(Named(), 144),
    "padded average pool": lambda: Net(
        nn.Sequential(nn.BatchNorm2d(4), nn.AvgPool2d(3, 2, 1), conv(4, 4), nn.ReLU()), 36
    ),
    "average pools alone": lambda: Net(
        nn.Sequential(nn.AvgPool2d(2), conv(2, 3), nn.ReLU(), nn.AvgPool2d((3, 1), 1), nn.AdaptiveAvgPool2d(1)), 3, False
    ),
    "sum at the end": lambda: Net(Of(lambda x, a: F.relu(a(x)) + x, conv(4, 4))),
    "mean at the end": lambda: Net(nn.Sequential(conv(4, 3, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())),
    "ReLU at the end": lambda: Net(nn.Sequential(Residual(basic(4, 4)), nn.AvgPool2d(6), conv(4, 3, 1), nn.ReLU())),
}  # fmt: skip


def drawn(what, seed=0):
    """The network in float64 with random weights and statistics, some factors negative."""
    net, random = NETS[what]().double().eval(), torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5, generator=random)
            module.running_var.uniform_(0.3, 2, generator=random)
            module.weight.data.uniform_(-1, 1.5, generator=random)
            module.bias.data.uniform_(-0.5, 0.5, generator=random)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            module.weight.data.normal_(0.5 / fan_in, fan_in**-0.5, generator=random)
            if module.bias is not None:
                module.bias.data.uniform_(-0.3, 0.5, generator=random)
    return net


def times(snn, images, **chosen):
    record = simulate_ttfs(snn, images, trace=range(len(images)), **chosen)
    return record, torch.cat([time.flatten() for traced in record.spike_times.values() for time in traced.values()])


@pytest.mark.parametrize("what", NETS)
def test_the_spiking_network_has_the_outputs_of_the_relu_network(what, tmp_path):
    net = drawn(what)
    expected = net(FEW).flatten(1).detach()
    for snn in (exact_map(net, FEW, zeta="auto", input_range=RANGE), b1_map(net, FEW, input_range=RANGE)):
        record, found = times(snn, FEW)
        torch.testing.assert_close(record.logits, expected, rtol=0, atol=1e-9)
        assert snn.zeta == 0.5 or all(counts.certified == counts.pairs for counts in record.counts.values())
        snn.save(tmp_path / "snn.pt")
        again, same = times(TTFSNet.load(tmp_path / "snn.pt"), FEW)
        assert torch.equal(again.logits, record.logits) and torch.equal(same, found)
        assert (again.synops, again.ann_macs) == (record.synops, record.ann_macs)


@pytest.mark.parametrize("what", NETS)
def test_sums_of_weights_are_bounded_over_all_branches(what):
    graph = preprocess(drawn(what), FEW.shape[1:], RANGE, (-0.3, 0.5), images=FEW)  # compares with the network
    *hidden, _ = (node.module for node in graph.nodes.values() if node.kind in ("conv", "linear"))
    for module in hidden:
        sums = module.weight.flatten(1).sum(1)
        assert sums.min() >= -0.3 - 1e-9 and sums.max() <= 0.5 + 1e-9


@pytest.mark.parametrize("what", ["identity", "option A", "preactivation", "inception", "linear"])
@pytest.mark.parametrize("noise", [{}, {"time_noise": 0.05, "alpha_noise": 0.05, "weight_noise": 0.1, "levels": 64}])
def test_all_evaluators_find_the_same_spikes_also_early_ones(what, noise):
    snn = exact_map(drawn(what, 1), FEW, zeta=-0.4, input_range=RANGE)
    events, expected = times(snn, FEW[:2], evaluator="events", **noise)
    for evaluator in ("certified", "sorted"):
        record, found = times(snn, FEW[:2], evaluator=evaluator, **noise)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
        torch.testing.assert_close(record.logits, events.logits, rtol=0, atol=1e-9)
    assert sum(counts.early for counts in events.counts.values()) > 0


def test_a_shortcut_is_delayed_until_the_intervals_end_together():
    """Latency is the longest path of intervals; the drive begins with the longer interval."""
    net = drawn("identity")
    snn = exact_map(net, FEW, input_range=RANGE)
    assert snn.sources("body_0_main_3") == ("stem", "body_0_main_0")
    assert snn.sources("body_1_main_0") == ("body_0_main_3",)
    lengths = {name: 1.5 * largest for name, largest in snn.ranges.largest.items()}
    assert snn.latency == pytest.approx(1 + sum(lengths.values()))
    for name in ("body_0_main_3", "body_1_main_3"):
        layer, sources = snn.layers[name], snn.sources(name)
        assert float(layer.t_min) == max(float(snn.layers[source].t_max) for source in sources)
        longest = max(lengths[source] for source in sources)
        assert float(layer.t_min - layer.t_min_prev) == pytest.approx(longest)


def test_a_potential_reaches_its_threshold_at_the_spike_of_a_sum():
    snn = exact_map(drawn("identity"), FEW, input_range=RANGE)
    name = "body_1_main_3"
    spikes = simulate_ttfs(snn, FEW[:1], trace=[0]).spike_times[0]
    fired = (spikes[name] < snn.layers[name].t_max - 1e-9).flatten().nonzero().flatten()[:5].tolist()
    for course in potentials(snn, name, spikes, fired):
        last = int((course.times <= course.spike).sum()) - 1
        slope = (course.values[last + 1] - course.values[last]) / (course.times[last + 1] - course.times[last])
        reached = float(course.values[last] + slope * (course.spike - course.times[last]))
        assert reached == pytest.approx(course.theta, abs=1e-9)


def test_operations_are_those_of_the_branches_and_not_of_the_kernels_that_hold_them():
    """An identity shortcut is one connection per neuron; spikes of an average pool share its products."""
    net = drawn("identity")
    record = simulate_ttfs(exact_map(net, FEW, input_range=RANGE), FEW)
    stem = F.relu(net.stem(FEW))
    inner = F.relu(net.body[0].main[1](net.body[0].main[0](stem)))
    taps = F.conv_transpose2d(torch.ones(1, 4, 6, 6).double(), torch.ones(4, 4, 3, 3).double(), padding=1)
    assert record.synops["body_0_main_3"] == int(((inner > 0) * taps).sum()) + int((stem > 0).sum())
    pooled = F.relu(net.body[1](net.body[0](stem)))
    assert record.synops["head"] == 3 * int((pooled > 0).sum())
    convs = (2 + 4 * 4) * 4 * (3 * 6 - 2) ** 2
    assert record.ann_macs == convs + 2 * 4 * 36 + 36 * 3


def test_a_projection_belongs_to_the_layer_that_it_is_added_in():
    """Its products of the ReLU network are counted there."""
    net = drawn("projection")
    snn = exact_map(net, FEW, input_range=RANGE)
    found = layer_of_modules(net, FEW.shape[1:], snn.layers)
    inner, last = "body_main_0", "body_shortcut_0"  # named by the first branch with weights
    assert found == {"stem": "stem", "body.main.0": inner, "body.main.3": last, "body.shortcut.0": last, "head": "head"}


REFUSED = {
    "a sum without a ReLU": (
        Net(Of(lambda x, a, b: b(a(x) + x), conv(4, 4), conv(4, 4)), 144),
        "'body_modules__1' reads the sum 'add1', which has no ReLU behind it: a sum may be negative",
    ),
    "a concatenation in front of a ReLU": (
        Net(Of(lambda x, a: F.relu(torch.cat([a(x), x], 1)), conv(4, 4)), 288), "'cat1' concatenates a value in front"
    ),
    "a max-pool of a sum": (
        Net(Of(lambda x, a: F.max_pool2d(F.relu(a(x)) + x, 2), conv(4, 4)), 36), "'maxpool1' reads sums or means"
    ),
    "a max-pool of padded shifts": (
        Net(Of(lambda x, norm: F.max_pool2d(F.pad(norm(x), (1, 1)), 2), nn.BatchNorm2d(4)), 48),
        "'maxpool1' reads zero padding behind a shift .'pad1'.",
    ),
    "windows of unequal size": (Net(nn.AdaptiveAvgPool2d(4), 64), "'body' .AdaptiveAvgPool2d. has windows of unequal"),
    "borders that do not count": (
        Net(nn.AvgPool2d(3, 2, 1, count_include_pad=False), 36), "has windows of unequal size"
    ),
    "values of several shapes": (
        Net(Of(lambda x, a: F.relu(a(x) + x), conv(4, 1)), 144), "'add1' adds values of the shapes"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_has_no_exact_form_is_refused_in_one_line(what):
    net, words = REFUSED[what]
    with pytest.raises(InputError, match=words) as error:
        exact_map(net.double(), FEW, input_range=RANGE)
    assert "\n" not in str(error.value)
