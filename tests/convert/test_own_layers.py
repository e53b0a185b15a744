"""Layers whose weights are computed, and subclasses with a forward of their own: converted as they compute, or refused by name.

A network that torch's pruning or parametrizations compute is converted like a network of the computed weights. A subclass of a
convertible layer is judged by its values, not by its name.
"""

import math
from functools import partial
from types import MethodType

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from respike.convert import (
    calibrate_bias,
    data_norm,
    exact_map,
    local_threshold_norm,
    mmse_norm,
    model_norm,
    no_norm,
    percentile_norm,
)
from respike.convert.graph.check import check_graph
from respike.convert.graph.trace import read_graph
from respike.convert.rate.wiring import build_rate_snn, check_rate_snn
from respike.errors import InputError
from respike.neurons.encode import Current
from respike.neurons.integrate_fire import SOFT
from respike.simulate import simulate
from respike.simulate.ttfs import simulate_ttfs

IMAGES = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))
RATE = {"none": no_norm, "data": data_norm, "percentile": percentile_norm, "model": model_norm}


def cnn(pool=nn.AvgPool2d, seed=0, conv=nn.Conv2d, relu=nn.ReLU, linear=nn.Linear):
    """Two convolutions with batch norms and a linear layer, drawn so that every layer responds; float32, in training mode."""
    torch.manual_seed(seed)
    first = conv(1, 6, 3), nn.BatchNorm2d(6), relu(), pool(2)
    net = nn.Sequential(*first, conv(6, 8, 2), nn.BatchNorm2d(8), relu(), nn.Flatten(), linear(32, 5))
    for norm in (net[1], net[5]):
        norm.running_mean.uniform_(-0.3, 0.3)
        norm.running_var.uniform_(0.5, 2)
        norm.bias.data.uniform_(0, 0.5)
    return net


def in_each(net, change):
    """The network with `change(layer)` applied to every layer with weights."""
    for module in list(net.modules()):
        if isinstance(module, nn.Conv2d | nn.Linear):
            change(module)
    return net


class Doubling(nn.Module):
    """A parametrization of a user's own."""

    def forward(self, weight):
        return 2 * weight


COMPUTED = {
    "pruned, unstructured": lambda layer: prune.l1_unstructured(layer, "weight", 0.4),
    "pruned, whole maps": lambda layer: prune.ln_structured(layer, "weight", 0.3, n=2, dim=0),
    "pruned twice": lambda layer: [
        prune.random_unstructured(layer, name, 0.3) for name in ("weight", "weight", "bias")
    ],
    "weight norm": parametrizations.weight_norm,
    "spectral norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "own parametrization": lambda layer: parametrize.register_parametrization(layer, "weight", Doubling()),
    "legacy weight norm": torch.nn.utils.weight_norm,
    "legacy spectral norm": torch.nn.utils.spectral_norm,
}


def computed(kind, dtype=torch.float32, pool=nn.AvgPool2d):
    """A network of this kind whose parameters were changed after its last forward, so that hooks left old weights behind."""
    net = in_each(cnn(pool), COMPUTED[kind]).to(dtype)
    net(IMAGES.to(dtype)).sum().backward()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.1).add_(0.002)
    return net


def plain(net):
    """A plain network with the weights that the network computes in eval mode."""
    made = cnn(type(net[3])).to(next(net.parameters()).dtype).eval()
    with torch.no_grad():
        net.eval()(IMAGES.to(next(net.parameters()).dtype))  # hooks set the weights
        for ours, theirs in zip(made, net, strict=True):
            for name in ours.state_dict():
                getattr(ours, name).data.copy_(getattr(theirs, name))
    net.train()
    return made


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("kind", COMPUTED)
def test_computed_weights_are_converted_as_the_plain_network_is(kind, relu_values):
    """The graph's outputs are the network's; weights, factors and spikes are those of the plain network, bit for bit."""
    net = computed(kind)
    plain_net = plain(computed(kind))
    exact = computed(kind, torch.float64)
    graph = read_graph(exact)
    with torch.no_grad():
        outputs = graph.run(IMAGES.double())[graph.output]
        torch.testing.assert_close(outputs, plain(exact)(IMAGES.double()), rtol=1e-9, atol=1e-9)
    for method, convert in RATE.items():
        snn, expected = convert(net, IMAGES), convert(plain_net, IMAGES)
        assert snn.factors == expected.factors, method
        state = expected.state_dict()
        assert snn.state_dict().keys() == state.keys()
        assert all(torch.equal(value, state[name]) for name, value in snn.state_dict().items()), method
        with torch.no_grad():
            values = relu_values(snn, IMAGES)[snn.output] * snn.scales[snn.output]
            torch.testing.assert_close(values, plain_net(IMAGES), rtol=1e-4, atol=1e-4)
    spikes = [simulate(data_norm(source, IMAGES), IMAGES, duration=0.03, seed=0) for source in (net, plain_net)]
    assert torch.equal(spikes[0].predicted, spikes[1].predicted)
    assert all(torch.equal(spikes[0].spikes[name], spikes[1].spikes[name]) for name in spikes[0].spikes)


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("kind", COMPUTED)
def test_computed_weights_are_mapped_without_loss(kind):
    net = computed(kind, torch.float64, nn.MaxPool2d)
    record = simulate_ttfs(exact_map(net, IMAGES), IMAGES)
    with torch.no_grad():
        logits = plain(net)(IMAGES.double())
    assert float((record.logits - logits).abs().max()) < 1e-9 * float(logits.abs().max())
    assert torch.equal(record.predicted, logits.argmax(1))


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("kind", COMPUTED)
def test_the_network_keeps_its_hooks_its_mode_and_its_values(kind):
    net = computed(kind)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    attributes = [{name: id(value) for name, value in vars(module).items()} for module in net.modules()]
    hooks = [len(module._forward_pre_hooks) for module in net.modules()]
    data_norm(net, IMAGES)
    exact_map(in_each(cnn(nn.MaxPool2d), COMPUTED[kind]), IMAGES)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert [{name: id(value) for name, value in vars(module).items()} for module in net.modules()] == attributes
    assert [len(module._forward_pre_hooks) for module in net.modules()] == hooks
    assert all(module.training for module in net.modules())


class StandardizedConv2d(nn.Conv2d):
    """Weight standardization, as timm's networks have it."""

    def forward(self, x):
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        weight = (self.weight - mean) / (self.weight.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class ClippedReLU(nn.ReLU):
    """A ReLU that cannot exceed 0.5."""

    def forward(self, x):
        return x.clamp(0, 0.5)


class CosineLinear(nn.Linear):
    """A linear layer on directions, as in face recognition."""

    def forward(self, x):
        return F.linear(F.normalize(x), F.normalize(self.weight), self.bias)


class NormAndRelu(nn.BatchNorm2d):
    """A batch norm with its activation inside, as timm's BatchNormAct2d."""

    def forward(self, x):
        return F.relu(super().forward(x))


class MaskedPool(nn.AvgPool2d):
    """A pool that forgets half of the maps."""

    def forward(self, x):
        return super().forward(x) * (torch.arange(x.shape[1]) % 2).view(-1, 1, 1)


class AlwaysDropout(nn.Dropout):
    """Monte-Carlo dropout: it drops at test as well."""

    def forward(self, x):
        return F.dropout(x, self.p, training=True)


def replaced(position, module, pool=nn.AvgPool2d):
    """The network with one of its modules replaced; nn.Sequential gives it the same name."""
    net = cnn(pool).eval()
    net[position] = module
    return net


torch.manual_seed(0)
DIFFERENT = {  # what is built, the path of the layer, its class, the class to use
    "standardized convolution": (lambda pool: cnn(pool, conv=StandardizedConv2d), "0", StandardizedConv2d, nn.Conv2d),
    "standardized second": (
        lambda pool: replaced(4, StandardizedConv2d(6, 8, 2), pool), "4", StandardizedConv2d, nn.Conv2d
    ),
    "clipped ReLU": (lambda pool: replaced(2, ClippedReLU(), pool), "2", ClippedReLU, nn.ReLU),
    "cosine output": (lambda pool: cnn(pool, linear=CosineLinear), "8", CosineLinear, nn.Linear),
    "norm with activation": (lambda pool: replaced(5, NormAndRelu(8), pool), "5", NormAndRelu, nn.BatchNorm2d),
    "dropout at test": (
        lambda pool: replaced(7, nn.Sequential(nn.Flatten(), AlwaysDropout(0.3)), pool), "7.1", AlwaysDropout, nn.Dropout
    ),
}  # fmt: skip
CURRENT = partial(simulate, encode=Current(), neuron=SOFT, duration=0.008)
EVERY = {
    **RATE, "exact": exact_map, "mmse": partial(mmse_norm, steps=8), "local threshold": local_threshold_norm,
    "bias": partial(calibrate_bias, norm=percentile_norm, simulate=CURRENT),
}  # fmt: skip


@pytest.mark.parametrize("method", EVERY)
@pytest.mark.parametrize("kind", DIFFERENT)
def test_a_subclass_that_computes_something_else_is_refused_by_its_place(kind, method):
    make, path, own, base = DIFFERENT[kind]
    net = make(nn.MaxPool2d if method == "exact" else nn.AvgPool2d)
    with pytest.raises(InputError, match=rf"^layer '{path}' \({own.__name__}\).*plain nn.{base.__name__}") as error:
        EVERY[method](net, IMAGES)
    assert "\n" not in str(error.value)


def test_a_pool_that_computes_something_else_is_refused():
    with pytest.raises(InputError, match=r"^layer '3' \(MaskedPool\).*plain nn.AvgPool2d"):
        data_norm(replaced(3, MaskedPool(2)), IMAGES)


class RoundAboutConv2d(nn.Conv2d):
    """The same convolution, padded by hand, with attributes and hooks of its own."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.calls = []
        self.register_forward_hook(lambda module, args, value: self.calls.append(value.shape))

    def forward(self, x):
        return self._conv_forward(F.pad(x, (0, 0, 0, 0)), self.weight, None) + self.bias.view(-1, 1, 1)


class SixReLU(nn.ReLU):
    """A ReLU that clips where these networks never get."""

    def forward(self, x):
        return x.clamp(0, 600)


@pytest.mark.parametrize("method", EVERY)
def test_a_subclass_that_computes_the_same_is_converted_as_its_base(method, tmp_path):
    pool = nn.MaxPool2d if method == "exact" else nn.AvgPool2d
    own, base = cnn(pool, conv=RoundAboutConv2d, relu=SixReLU).eval(), cnn(pool).eval()
    base.load_state_dict(own.state_dict())
    snn, expected = EVERY[method](own, IMAGES).state_dict(), EVERY[method](base, IMAGES).state_dict()
    assert snn.keys() == expected.keys() and all(torch.equal(snn[name], expected[name]) for name in snn)
    EVERY[method](own, IMAGES).save(tmp_path / "snn.pt")


@pytest.mark.parametrize("convert", [no_norm, model_norm])
def test_without_images_a_forward_of_its_own_is_refused_because_nothing_compares_it(convert):
    assert convert(cnn()).layers.keys() == convert(cnn(), IMAGES).layers.keys()
    for net in (cnn(conv=RoundAboutConv2d), cnn(relu=SixReLU)):
        with pytest.raises(InputError, match=rf"^layer '[02]' .*{convert.__name__}\(net, images\)"):
            convert(net)


class Behind(nn.Module):
    """Layers as torch has them, and an operation that torch.fx traces as something else."""

    def __init__(self, forward):
        super().__init__()
        self.fc1, self.relu, self.fc2 = nn.Linear(64, 9), nn.ReLU(), nn.Linear(9, 3)
        self.run = forward

    def forward(self, x):
        return self.run(self, x.flatten(1))


def in_place(net, x):
    x = net.fc1(x)
    y = x.clone() if False else x
    y += 0.5 * y
    return net.fc2(net.relu(x))


UNLIKE = {
    "dropout as a function, at test": (
        lambda net, x: net.fc2(F.dropout(net.relu(net.fc1(x)), 0.5)), "the value of layer 'fc2'"
    ),
    "in place, read again": (in_place, "the value of layer 'relu'"),
    "dropout at the end": (lambda net, x: F.dropout(net.fc2(net.relu(net.fc1(x))), 0.5), "the network's output"),
}  # fmt: skip


@pytest.mark.parametrize("kind", UNLIKE)
def test_an_operation_that_computes_something_else_is_refused_at_the_next_layer(kind):
    torch.manual_seed(0)
    forward, words = UNLIKE[kind]
    with pytest.raises(InputError, match=f"^{words}"):
        data_norm(Behind(forward), IMAGES)


def test_a_hook_that_changes_a_value_is_refused_at_its_layer_and_one_that_reads_is_not():
    seen, net = [], cnn()
    net[4].register_forward_hook(lambda module, args, value: seen.append(value.shape))
    expected = data_norm(net, IMAGES).factors
    net[4].register_forward_hook(lambda module, args, value: 3 * value)
    with pytest.raises(InputError, match=r"^layer '4' \(Conv2d\)"):
        data_norm(net, IMAGES)
    assert seen and expected == data_norm(cnn(), IMAGES).factors


def test_values_that_are_not_finite_are_refused_by_their_layer():
    for broken in (math.nan, math.inf):
        net = cnn()
        net[4].weight.data[0, 0, 0, 0] = broken
        for convert in RATE.values():
            with pytest.raises(InputError, match=r"^layer '4'.*nan or infinite"):
                convert(net, IMAGES)


def test_images_that_do_not_fit_are_refused_with_their_shape():
    for convert in EVERY.values():
        with pytest.raises(InputError, match=r"\(1, 5, 5\)"):
            convert(cnn(nn.MaxPool2d if convert is exact_map else nn.AvgPool2d), torch.rand(3, 1, 5, 5))


def test_a_network_that_responds_to_nothing_is_compared_as_well():
    """Black images: every value is a bias or 0."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 5, bias=False), nn.ReLU(), nn.Linear(5, 3, bias=False))
    black = torch.zeros(3, 1, 8, 8)
    check_graph(net, black)
    no_norm(net, black)


@pytest.mark.parametrize("fold_dropout", [True, False])
@pytest.mark.parametrize("convert", RATE.values())
def test_a_spiking_layer_whose_weights_were_changed_is_refused_by_its_name(convert, fold_dropout):
    """After every rate conversion the layers, with ReLUs in place of neurons, are compared with the graph up to the scales."""
    net = cnn().eval()
    snn = convert(net, IMAGES, fold_dropout=fold_dropout)
    graph = read_graph(net)
    nodes = build_rate_snn(graph, fold_dropout)[1]
    check_rate_snn(snn, graph, nodes, IMAGES, fold_dropout)
    snn.layer("conv2").synapses[0].weighted.weight.data *= 1.01
    with pytest.raises(InputError, match="layer 'conv2'"):
        check_rate_snn(snn, graph, nodes, IMAGES, fold_dropout)


def test_scales_that_leave_the_range_of_float32_are_refused():
    """Each of 40 layers has a neuron of 50 weights 1: the last scale is 50**40, and a bias divided by that is 0."""
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 50), *[m for _ in range(40) for m in (nn.ReLU(), nn.Linear(50, 50))]
    )
    for module in net[1::2]:
        nn.init.ones_(module.weight)
    for module in net[3::2]:
        module.weight.data /= 50
        module.weight.data[0] = 1
    with pytest.raises(InputError, match=r"layer 'linear\d+'.*leave the range of torch.float32; normalize otherwise"):
        model_norm(net, IMAGES)


def test_batches_are_read_once_and_all_of_them_count():
    expected = data_norm(cnn(), IMAGES).factors
    for size in (1, 5, 12):  # a matrix product of another batch size may round its sums otherwise
        assert data_norm(cnn(), iter(IMAGES.split(size))).factors == pytest.approx(expected, rel=1e-6)


def negated(net):
    net.register_forward_hook(lambda module, args, value: -value)


def standardized(net):
    net.register_forward_pre_hook(lambda module, args: ((args[0] - 0.5) / 0.2,))


def own_call(net):
    net[8].forward = MethodType(lambda layer, x: -F.linear(x, layer.weight, layer.bias), net[8])


@pytest.mark.parametrize("change", [negated, standardized, own_call])
@pytest.mark.parametrize("convert", [no_norm, model_norm])
def test_without_images_hooks_of_the_network_and_a_forward_of_an_object_are_refused(convert, change):
    net = cnn()
    change(net)
    with pytest.raises(InputError, match=r"of its own.*give images"):
        convert(net)
    with pytest.raises(InputError, match="differs from the graph"):
        convert(net, IMAGES)


def test_a_forward_that_remembers_its_calls_is_refused_in_one_line():
    class Alternating(nn.Module):
        def __init__(self):
            super().__init__()
            self.calls, self.even, self.odd = 0, nn.Linear(64, 5), nn.Linear(64, 5)

        def forward(self, x):
            self.calls += 1
            return (self.odd if self.calls % 2 else self.even)(x.flatten(1))

    with pytest.raises(InputError, match="remembers calls"):
        data_norm(Alternating(), IMAGES)
