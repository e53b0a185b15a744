"""Any convolutional network: its graph and its RateSNN, with ReLUs in place of neurons, compute what it computes."""

import pytest
import torch
from cnns import cnns
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from respike.convert import data_norm, load_snn, model_norm, no_norm, percentile_norm
from respike.convert.graph.nodes import Scale, per_channel
from respike.convert.graph.trace import read_graph
from respike.convert.rate.wiring import build_rate_snn, cap_of
from respike.errors import InputError, SilentLayer
from respike.neurons.encode import Current, Rate
from respike.neurons.integrate_fire import IntegrateFire
from respike.simulate import simulate
from respike.simulate.rate.stepwise import simulate_stepwise

SOFT = IntegrateFire(reset="subtract", start=0.5)
OPTIONS = {
    "scale": st.sampled_from(["layer", "channel"]),
    "max_pool": st.sampled_from(["count", "gate", "before_neuron"]),
    "readout": st.sampled_from(["counts", "current"]),
    "spiking_pools": st.booleans(),
}


def assert_close(ours, expected):
    assert (ours - expected).abs().max() <= 1e-9 * max(1, expected.abs().max())


def layer_values(snn, images, caps):
    """The value of each layer with ReLUs (and their caps, by layer) in place of neurons, in the network's units."""
    values, activations = {"input": images}, {}
    for name, layer in snn.layers.items():
        drive = layer.drive(values)
        scale = per_channel(torch.as_tensor(snn.scales[name], dtype=torch.float64), drive)
        value = layer.pool(drive) if layer.kind == "max" else drive
        if layer.kind == "pool":
            value = value.relu()
        elif layer.kind == "relu":
            assert caps[name] is None or bool((scale <= caps[name]).all()), "a neuron could exceed the cap"
            value = (value * scale).clamp(0, caps[name]) / scale
        values[name], activations[name] = value, value * scale
    return activations


def converted(net, images, **options):
    try:
        return percentile_norm(net, images, q=1.0, **options)
    except SilentLayer:
        assume(False)


@settings(max_examples=40)
@given(cnns(), st.fixed_dictionaries(OPTIONS))
def test_with_relus_for_neurons_every_layer_computes_its_node(case, options):
    net, images = case
    expected, shape = net(images.clone()), images.shape[1:]
    graph = read_graph(net, input_shape=shape)
    assert_close(graph.run(images.clone())[graph.output], expected)
    snn = converted(net, images, **options)
    wiring = {name: options[name] for name in ("spiking_pools", "max_pool", "readout")}
    _, node_of_layer, graph = build_rate_snn(graph, input_shape=shape, **wiring)
    nodes = graph.run(images.clone())
    kinds = {name: layer.kind for name, layer in snn.layers.items()}
    caps = {name: cap_of(graph, node_of_layer[name]) for name in snn.layers if kinds[name] == "relu"}
    activations = layer_values(snn, images, caps)
    for name, value in activations.items():
        assert_close(value, nodes[node_of_layer[name]])
    assert len(torch.as_tensor(snn.scales[snn.output]).unique()) == 1, "classes are compared with each other"
    end = net[-1] if isinstance(net[-1], nn.Softmax | nn.LogSoftmax | nn.ReLU) else nn.Identity()
    assert_close(end(activations[snn.output].flatten(1)), expected)


@settings(max_examples=20)
@given(cnns(most=3, side=6), st.fixed_dictionaries(OPTIONS | {"encode": st.sampled_from([Current(), Rate(1000.0)])}))
def test_the_simulation_is_its_stepwise_reference_in_floating_and_fixed_point(case, options):
    net, images = case
    settings = {"encode": options.pop("encode"), "neuron": SOFT, "duration": 0.02}
    snn = converted(net, images, **options)
    traces = {}
    for bits in (None, 16):
        try:
            fast = simulate(snn, images, weight_bits=bits, chunk=2, **settings)
        except InputError as error:
            assert "too large for the grid" in str(error)  # few channels of random nets respond to five images
            continue
        reference = simulate_stepwise(snn, images, weight_bits=bits, keep=True, **settings)
        assert torch.equal(fast.predicted, reference.predicted)
        torch.testing.assert_close(fast.counts, reference.counts, rtol=0 if bits else 1e-9, atol=0 if bits else 1e-9)
        for ours, expected in ((fast.spikes, reference.spikes), (fast.synops, reference.synops)):
            assert ours.keys() == expected.keys()
            assert all(torch.equal(ours[name], expected[name]) for name in expected)
        traces[bits] = reference.traces[0].spikes
    for name, layer in snn.layers.items() if len(traces) == 2 else ():
        ours, expected = (traces[bits][name].double().sum(0).flatten() for bits in (16, None))
        if layer.kind == "relu" and name != snn.output:
            assert (ours - expected).abs().mean() < 0.5, name  # of 20 steps: a spike may come a step later
    assert_first_layers(snn, images, traces.get(None, {}), settings)


def assert_first_layers(snn, images, spikes, settings):
    """A constant x makes a neuron spike floor(T x + 1/2) times, at most T; a maximum is that of its inputs' counts."""
    for name, layer in snn.layers.items() if spikes else ():
        counts = spikes[name].sum(0)
        steps = len(spikes[name])
        unit = snn.readout == "current" and name == snn.output
        if layer.kind == "relu" and layer.sources == ["input"] and isinstance(settings["encode"], Current) and not unit:
            charge = steps * layer.drive({"input": images[:1]})[0] + 0.5
            clear = (charge - charge.round()).abs() > 1e-6
            assert torch.equal(counts[clear], charge.floor().clamp(0, steps)[clear])
        if layer.kind == "max" and layer.rule == "count":
            inputs = sum(synapse(spikes[synapse.source].expand(steps, *[-1] * 3)) for synapse in layer.synapses)
            torch.testing.assert_close(spikes[name].expand(steps, *[-1] * 3).cumsum(0), layer.pool(inputs.cumsum(0)))


@settings(max_examples=8)
@given(cnns(most=3, side=6), st.fixed_dictionaries(OPTIONS))
def test_a_saved_network_has_the_same_spikes(tmp_path_factory, case, options):
    net, images = case
    snn = converted(net, images, **options)
    path = tmp_path_factory.getbasetemp() / "any.pt"
    snn.save(path)
    loaded = load_snn(path)
    assert repr(loaded) == repr(snn) and loaded.readout == snn.readout
    for name, value in snn.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    for name, scale in snn.scales.items():
        assert torch.equal(torch.as_tensor(loaded.scales[name]), torch.as_tensor(scale))
    ours, expected = (
        simulate(network, images, encode=Current(), neuron=SOFT, duration=0.01, weight_bits=None)
        for network in (loaded, snn)
    )
    assert torch.equal(ours.counts, expected.counts)
    assert all(torch.equal(ours.spikes[name], expected.spikes[name]) for name in expected.spikes)


@settings(max_examples=10)
@given(cnns(blocks=("plain", "residual", "fire", "fire", "pooled", "averaged")), st.sampled_from(["count", "gate"]))
def test_after_model_normalization_no_image_makes_a_layer_exceed_its_scale(case, max_pool):
    """Capped ReLUs and concatenations of different scales included. The bound is reached by no particular image."""
    net, images = case
    try:
        snn = model_norm(net, images, max_pool=max_pool)
    except InputError as error:
        assert any(words in str(error) for words in ("currents of both signs", "as classes", "no positive weight"))
        assume(False)
    shape = images.shape[1:]
    _, node_of_layer, graph = build_rate_snn(read_graph(net, input_shape=shape), max_pool=max_pool, input_shape=shape)
    caps = {name: cap_of(graph, node_of_layer[name]) for name, layer in snn.layers.items() if layer.kind == "relu"}
    given = torch.cat([images, images.round(), torch.ones_like(images), torch.zeros_like(images)])
    for name, value in layer_values(snn, given, caps).items():
        scale = per_channel(torch.as_tensor(snn.scales[name], dtype=torch.float64), value)
        assert (value / scale).max() <= 1 + 1e-9, name


class Flat(nn.Module):
    """Two branches of 3 and 2 channels on 8x8 pixels, joined as `form` says, and a linear layer."""

    def __init__(self, form, features):
        super().__init__()
        self.form, self.one, self.other, self.two = form, nn.Conv2d(1, 3, 3), nn.Conv2d(1, 3, 3), nn.Conv2d(1, 2, 5)
        self.same, self.pool, self.last = nn.Conv2d(2, 4, 1), nn.MaxPool2d(2), nn.Linear(features, 4)

    def nested(self, x):
        one, two = self.one(x).relu()[:, :, 1:-1, 1:-1], self.two(x).relu()
        return torch.cat([two, torch.cat([one, self.same(two).relu()], 1)], 1)

    def forward(self, x):
        return self.last(self.form(self, x))


FACTORS = torch.tensor([0.5, 1.0, 2.0]).view(3, 1, 1)
FLAT = {
    "spikes": (lambda net, x: torch.cat([net.one(x).relu().flatten(1), net.two(x).relu().flatten(1)], 1), 140),
    "a current and spikes": (lambda net, x: torch.cat([net.one(x).flatten(1), net.two(x).relu().flatten(1)], 1), 140),
    "a current in two parts": (
        lambda net, x: (lambda y: torch.cat([y, y.relu()], 1).relu())(net.one(x).flatten(1)),
        216,
    ),
    "pixels and spikes": (lambda net, x: torch.cat([x.flatten(1), net.two(x).relu().flatten(1)], 1), 96),
    "neurons on flattened spikes": (lambda net, x: (net.one(x).relu().flatten(1) - 0.1).relu(), 108),
    "a ReLU behind the flattening": (lambda net, x: net.one(x).flatten(1).relu(), 108),
    "a ReLU behind pool and view": (lambda net, x: net.pool(net.one(x)).view(-1, 27).relu(), 27),
    "a maximum of two layers": (
        lambda net, x: net.pool(torch.cat([net.two(x).relu(), net.same(net.two(x)).relu()], 1)).flatten(1),
        24,
    ),
    "multiples of spikes": (
        lambda net, x: torch.cat([(net.one(x).relu() * FACTORS).flatten(1), net.two(x).relu().flatten(1)], 1).relu(),
        140,
    ),
    "a sum with a current": (lambda net, x: net.one(x).relu().flatten(1) + net.other(x).flatten(1), 108),
    "a maximum of nested parts": (lambda net, x: net.pool(net.nested(x)).flatten(1), 36),
}


@pytest.mark.parametrize("max_pool", ["count", "gate", "before_neuron"])
@pytest.mark.parametrize("scale", ["layer", "channel"])
@pytest.mark.parametrize("form", FLAT)
def test_joined_maps_that_are_flattened(form, scale, max_pool):
    """Every conversion compares its layers with the network; here also the fast simulation with its reference."""
    torch.manual_seed(0)
    images = torch.rand(40, 1, 8, 8).double()
    snn = percentile_norm(Flat(*FLAT[form]).double().eval(), images, q=1.0, scale=scale, max_pool=max_pool)
    ours, expected = (
        run(snn, images[:4], encode=Current(), neuron=SOFT, duration=0.02) for run in (simulate, simulate_stepwise)
    )
    assert torch.equal(ours.counts, expected.counts) and ours.spikes.keys() == expected.spikes.keys()
    assert all(torch.equal(ours.spikes[name], expected.spikes[name]) for name in expected.spikes)
    for layer in snn.layers.values():
        scaled = any(isinstance(module, Scale) for synapse in layer.synapses for module in synapse)
        assert not (layer.kind == "max" and scaled), "a max unit counts spikes, each of them 1"


ENDS = {
    "maximum of spikes": [nn.ReLU(), nn.MaxPool2d(6)],
    "maximum of currents": [nn.MaxPool2d(6)],
    "mean of spikes": [nn.ReLU(), nn.AvgPool2d(6)],
    "mean of currents": [nn.AdaptiveAvgPool2d(1)],
    "one layer": [nn.Conv2d(4, 4, 6)],
}


@pytest.mark.parametrize("max_pool", ["count", "gate", "before_neuron"])
@pytest.mark.parametrize("readout", ["counts", "current"])
@pytest.mark.parametrize("end", ENDS)
def test_the_output_may_be_a_pool_or_the_only_layer(end, readout, max_pool):
    torch.manual_seed(0)
    front = [] if end == "one layer" else [nn.Conv2d(4, 4, 3)]
    net = nn.Sequential(*front, *ENDS[end], nn.Flatten()).double()
    images = torch.rand(8, 4, *([6, 6] if end == "one layer" else [8, 8])).double()
    snn = percentile_norm(net, images, q=1.0, max_pool=max_pool, readout=readout)
    settings = {"encode": Current(), "neuron": SOFT, "duration": 0.2}
    expected = simulate_stepwise(snn, images, **settings)
    for backend in ("auto", "torch"):
        ours = simulate(snn, images, backend=backend, **settings)
        assert torch.equal(ours.counts, expected.counts) and torch.equal(ours.predicted, expected.predicted)
    outputs = net(images).detach()
    outputs = outputs.relu() if readout == "counts" else outputs  # no class has fewer than 0 spikes
    clear = outputs.topk(2).values.diff().abs().squeeze(1) > 0.02 * outputs.abs().max()
    assert clear.any() and torch.equal(expected.predicted[-1][clear].long(), outputs.argmax(1)[clear])


CONVERSIONS = {
    "data": lambda net, images: data_norm(net, images),
    "data, channels": lambda net, images: data_norm(net, images, scale="channel", readout="current"),
    "before the neuron": lambda net, images: percentile_norm(net, images, max_pool="before_neuron"),
    "model": lambda net, images: model_norm(net, images),
    "none": lambda net, images: no_norm(net, images),
}


@pytest.mark.parametrize("cap", [0.2, 6.0])
@pytest.mark.parametrize("conversion", CONVERSIONS)
def test_neurons_of_a_capped_relu_stop_at_its_cap(conversion, cap):
    """Also where a scale comes from weights: the largest weight, or the sum of all."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.Hardtanh(0, cap), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 5)
    ).double()
    net[0].weight.data.abs_().mul_(cap)
    net.requires_grad_(False)
    images = torch.rand(3, 2, 8, 8).double()
    snn = CONVERSIONS[conversion](net, images)
    scale = torch.as_tensor(snn.scales["conv1"], dtype=torch.float64)
    record = simulate(snn, images, encode=Current(), neuron=SOFT, duration=0.1, weight_bits=None, trace=[0])
    activations = net[: 3 if snn.layers["conv1"].pool is not None else 2](images[:1])[0]
    expected = activations.clamp(max=1) if conversion == "none" else activations  # unchanged weights saturate at 1
    rates = record.traces[0].spikes["conv1"].mean(0) * scale.view(-1, 1, 1)
    assert scale.max() <= cap and (rates - expected).abs().max() <= scale.max() / 200 + 1e-6


def test_a_pool_of_a_negative_multiple_is_no_layer_of_neurons():
    """Neurons, whose spikes cannot be negative, would be silent."""

    class Negative(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.pool, self.conv2 = nn.Conv2d(1, 2, 3), nn.AvgPool2d(2), nn.Conv2d(2, 3, 2)

        def forward(self, x):
            return self.conv2(self.pool(self.conv1(x).relu() * -0.5))

    snn = no_norm(Negative(), torch.rand(2, 1, 8, 8))
    assert [layer.kind for layer in snn.layers.values()] == ["relu", "output"]
