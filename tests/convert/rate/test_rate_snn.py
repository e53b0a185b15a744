"""Wiring: a spiking network with ReLUs in place of neurons computes what the ReLU network does."""

from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from respike.convert import data_norm, model_norm, no_norm, percentile_norm
from respike.convert.graph.nodes import per_channel
from respike.errors import InputError
from respike.networks.mlp import MLP

CLOSE = {"rtol": 1e-10, "atol": 1e-12}
CONVERSIONS = {"none": no_norm, "data": data_norm, "model": model_norm, "percentile": percentile_norm}


@pytest.mark.parametrize("spiking_pools", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_with_relus_for_neurons_it_computes_the_network(
    draw_net, relu_values, relu_outputs, wiring, bias, spiking_pools
):
    for seed in range(3):
        net, images = draw_net(wiring, seed, bias)
        snn = no_norm(net, spiking_pools=spiking_pools)
        values = relu_values(snn, images)
        neurons = [values[name] for name, layer in snn.layers.items() if layer.kind == "relu"]
        for ours, expected in zip(neurons, relu_outputs(net, images), strict=True):
            torch.testing.assert_close(ours, expected, **CLOSE)
        torch.testing.assert_close(values[snn.output], net(images), **CLOSE)


def test_every_layer_comes_after_its_sources(draw_net, wiring):
    snn = no_norm(draw_net(wiring)[0])
    known = {"input"}
    for name, layer in snn.layers.items():
        assert known.issuperset(layer.sources)
        known.add(name)
    assert name == snn.output


def test_pools_are_layers_of_their_own_or_part_of_what_reads_them(draw_net):
    net, _ = draw_net("cnn")
    spiking, merged = no_norm(net), no_norm(net, spiking_pools=False)
    assert [layer.kind for layer in spiking.layers.values()] == ["relu", "pool", "relu", "pool", "output"]
    assert [layer.kind for layer in merged.layers.values()] == ["relu", "relu", "output"]
    pools = [[type(module) for module in layer.modules()].count(nn.AvgPool2d) for layer in merged.layers.values()]
    assert pools == [0, 1, 1]


@pytest.mark.parametrize("conversion", CONVERSIONS)
@pytest.mark.parametrize("training", [True, False])
def test_converting_never_changes_the_network(draw_net, wiring, conversion, training):
    net, images = draw_net(wiring)
    net.train(training)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    snn = CONVERSIONS[conversion](net, images)
    for tensor in [*snn.parameters(), *snn.buffers()]:
        tensor.zero_()
    assert all(module.training == training for module in net.modules())
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_weights_travel_by_state_dict(draw_net, relu_values, wiring):
    (net, images), (other, _) = draw_net(wiring, 0), draw_net(wiring, 1)
    source, target = data_norm(net, images), data_norm(other, images)
    target.load_state_dict(source.state_dict())
    expected, ours = relu_values(source, images), relu_values(target, images)
    assert all(torch.equal(ours[name], expected[name]) for name in expected)


@pytest.mark.parametrize("bias", [True, False])
def test_rescaling_divides_every_activation_by_its_scale(draw_net, relu_values, wiring, bias):
    net, images = draw_net(wiring, bias=bias)
    raw, snn = relu_values(no_norm(net), images), no_norm(net)
    for step in (1, 2):  # scales multiply up
        scales = {"input": 1.0}
        for i, (name, layer) in enumerate(snn.layers.items(), start=2):
            scales[name] = scales[layer.sources[0]] if layer.kind == "pool" else i**0.5 / step
        snn.rescale(scales)
    for name, value in relu_values(snn, images).items():
        if name != "input":
            torch.testing.assert_close(value * snn.scales[name], raw[name], **CLOSE)


def flat(*layers):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), *layers).double()


@pytest.mark.parametrize("softmax", [nn.Softmax(dim=1), nn.LogSoftmax(dim=1)])
def test_a_softmax_at_the_output_is_dropped(relu_values, softmax):
    images = torch.rand(9, 1, 2, 3).double()
    net = flat(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4), softmax)
    snn = data_norm(net, images)
    logits = net[:-1](images)
    torch.testing.assert_close(relu_values(snn, images)[snn.output] * snn.scales[snn.output], logits, **CLOSE)
    assert snn.factors == data_norm(net[:-1], images).factors


@pytest.mark.parametrize("conversion", CONVERSIONS)
def test_a_softmax_behind_the_last_relu_is_dropped(relu_values, conversion):
    images = torch.rand(9, 1, 2, 3).double()
    net = flat(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4), nn.ReLU(), nn.Softmax(dim=1))
    snn = CONVERSIONS[conversion](net, images)
    torch.testing.assert_close(relu_values(snn, images)[snn.output] * snn.scales[snn.output], net[:-1](images), **CLOSE)


class Branches(nn.Module):
    """Two branches from the same neurons: a convolution and a shortcut."""

    def __init__(self, join):
        super().__init__()
        self.conv1, self.conv2, self.conv3 = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 1)
        self.join = join

    def forward(self, x):
        return self.join(self, F.relu(self.conv1(x)))


JOINS = {
    "two convolutions": lambda net, x: F.relu(net.conv2(x) + net.conv3(x)),
    "convolution and identity": lambda net, x: F.relu(net.conv2(x) + x),
    "scaled identity": lambda net, x: F.relu(0.5 * net.conv2(x) + x * 0.25),
    "no ReLU on the sum": lambda net, x: net.conv2(x) + net.conv3(F.relu(net.conv2(x))),
    "sum of three": lambda net, x: F.relu(net.conv2(x) + x + net.conv3(x)),
    "sum of neurons": lambda net, x: F.relu(F.relu(net.conv2(x)) + F.relu(net.conv3(x))),
}


@pytest.mark.parametrize("conversion", CONVERSIONS)
@pytest.mark.parametrize("join", JOINS)
def test_branches_that_meet_keep_their_function(relu_values, join, conversion):
    torch.manual_seed(2)
    net, images = Branches(JOINS[join]).double(), torch.rand(6, 1, 6, 7).double()
    snn = CONVERSIONS[conversion](net, images)
    torch.testing.assert_close(relu_values(snn, images)[snn.output] * snn.scales[snn.output], net(images), **CLOSE)


def test_a_relu_in_place_whose_input_is_read_again_is_refused():
    """The shortcut then reads the output of the ReLU, not its input."""

    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2, self.relu = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 1), nn.ReLU(inplace=True)

        def forward(self, x):
            x = self.conv1(x)
            return self.conv2(self.relu(x)) + x

    with pytest.raises(InputError, match="'relu' changes in place"):
        no_norm(InPlace())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("conversion", CONVERSIONS)
def test_folding_the_authors_dropout_keeps_the_function_at_test(relu_values, bias, conversion):
    torch.manual_seed(1)
    net, images = MLP([6, 9, 8, 4], dropout=0.25, bias=bias).double(), torch.rand(9, 1, 2, 3).double()
    snn = CONVERSIONS[conversion](net, images)
    torch.testing.assert_close(
        relu_values(snn, images)[snn.output] * snn.scales[snn.output], net.eval()(images), **CLOSE
    )


def test_without_folding_the_weights_stay_those_of_the_network(relu_values):
    """The authors simulate the weights without the factor: the ReLU network without its dropout."""
    torch.manual_seed(1)
    net, images = MLP([6, 9, 8, 4], dropout=0.25).double(), torch.rand(9, 1, 2, 3).double()
    snn = no_norm(net, fold_dropout=False)
    for ours, original in zip(snn.parameters(), net.parameters(), strict=True):
        assert torch.equal(ours, original)
    torch.testing.assert_close(relu_values(snn, images)[snn.output] * 0.75**2, net.eval()(images), **CLOSE)


@pytest.mark.parametrize("conversion", CONVERSIONS)
def test_leaving_the_dropout_out_is_refused_where_biases_would_change_the_function(conversion):
    images = torch.rand(9, 1, 2, 3)
    with pytest.raises(InputError, match=r"^convert\.fold_dropout=false.*convert\.fold_dropout=true"):
        CONVERSIONS[conversion](MLP([6, 5, 4], dropout=0.5, bias=True), images, fold_dropout=False)
    CONVERSIONS[conversion](MLP([6, 5, 4], bias=True), images, fold_dropout=False)


@pytest.mark.parametrize("place", ["before", "behind"])
def test_a_constant_factor_reaches_a_bias_only_from_behind(relu_values, place):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(6, 8), nn.Linear(8, 4)

        def forward(self, x):
            x = F.relu(self.fc1(x.flatten(1)))
            return self.fc2(x * 0.3) if place == "before" else self.fc2(x) * 0.3

    torch.manual_seed(0)
    net, images = Scaled().double(), torch.rand(9, 1, 2, 3).double()
    snn = no_norm(net)
    torch.testing.assert_close(relu_values(snn, images)[snn.output], net(images), **CLOSE)


@pytest.mark.parametrize("name", ["classifier", "input", "values", "keys"])
def test_a_layer_may_have_any_name(name):
    net = nn.Sequential(
        OrderedDict([("flatten", nn.Flatten()), (name, nn.Linear(4, 3)), ("relu", nn.ReLU()), ("out", nn.Linear(3, 2))])
    )
    snn = no_norm(net)
    assert len(snn.layers) == 2 and next(iter(snn.layers)).startswith(name)
    assert "input" not in snn.layers


PARTS = {
    "first channels": lambda x: x[:, :5],
    "every other channel": lambda x: x[:, 1::2],
    "rows": lambda x: x[:, :, 1:4],
    "more channels": lambda x: F.pad(x, (0, 0, 0, 0, 2, 1)),
    "fewer channels": lambda x: F.pad(x, (0, 0, 0, 0, -2, -1)),
}


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_a_convolution_has_a_scale_for_each_of_its_channels(relu_values, part):
    class Parted(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.out = nn.Conv2d(1, 8, 3), nn.LazyLinear(4)

        def forward(self, x):
            return self.out(F.relu(PARTS[part](self.conv(x))).flatten(1))

    torch.manual_seed(0)
    net, images = Parted().double(), torch.rand(6, 1, 8, 8).double()
    expected = net(images)
    raw, snn = relu_values(no_norm(net, images), images), no_norm(net, images)
    (first, last) = snn.layers
    snn.rescale({"input": 1.0, first: torch.linspace(0.5, 2, raw[first].shape[1]).double(), last: 3.0})
    values = relu_values(snn, images)
    torch.testing.assert_close(values[first] * per_channel(snn.scales[first], values[first]), raw[first], **CLOSE)
    torch.testing.assert_close(values[last] * 3.0, expected, **CLOSE)


@pytest.mark.parametrize("part", [slice(10, 20), slice(0, 4)])
def test_a_slice_of_flattened_maps_has_no_scale_per_channel(part):
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Flatten(), Part(part), nn.ReLU(), nn.LazyLinear(3))
    images = torch.rand(8, 1, 6, 6)
    net(images)
    with pytest.raises(
        InputError, match=r"in front of a slice of flattened maps; slice the maps, or type convert.scale=layer"
    ):
        percentile_norm(net, images, scale="channel")
    percentile_norm(net, images, scale="layer")


class Part(nn.Module):
    def __init__(self, part):
        super().__init__()
        self.part = part

    def forward(self, x):
        return x[:, self.part]


REFUSED = {
    "softmax inside": (
        nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.Softmax(1), nn.Linear(3, 2)),
        "softmax 'softmax1'",
    ),
    "functional softmax inside": (Branches(lambda net, x: net.conv2(F.softmax(x, dim=1))), "softmax 'softmax1'"),
    "a rounded division": (
        Branches(lambda net, x: net.conv2(torch.div(x, 0.25, rounding_mode="floor").relu())),
        "operation 'div' in the network's forward",
    ),
    "no weights": (nn.Sequential(nn.AvgPool2d(2), nn.ReLU()), "nothing to convert"),
}


@pytest.mark.parametrize("conversion", CONVERSIONS)
@pytest.mark.parametrize("what", REFUSED)
def test_what_rate_coding_cannot_represent_is_refused_by_its_name(what, conversion):
    net, words = REFUSED[what]
    with pytest.raises(InputError, match=words) as error:
        CONVERSIONS[conversion](net, torch.rand(4, 1, 8, 8))
    assert "\n" not in str(error.value)
