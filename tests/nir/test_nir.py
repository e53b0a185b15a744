"""A NIR file holds the network that is simulated: its equations give every spike, step by step, and so does reading it."""

import tempfile
from pathlib import Path

import nir
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cnns import cnns
from hypothesis import given, settings
from torch import nn

from respike.convert import RateSNN, data_norm, exact_map, no_norm, percentile_norm
from respike.convert.graph.nodes import Pad, Slice
from respike.convert.rate.rate_snn import SpikingLayer, Synapse
from respike.data.datasets import mnist
from respike.errors import InputError
from respike.layers.tdbn import TdBN
from respike.networks.resnet19 import SpikingResNet19
from respike.neurons.encode import Current, Rate
from respike.neurons.integrate_fire import SOFT, IntegrateFire
from respike.neurons.lif import LIF
from respike.nir.read import nir_network, nir_neuron, simulated
from respike.nir.write import export_nir
from respike.simulate import simulate, simulate_stepwise

T = 20
ROOT = Path(__file__).parents[2]


def equations(path, inputs, above):
    """The spikes (T, B, ...) or currents of the output for inputs (T, B, ...), by NIR's equations and Euler's rule."""
    return all_equations(path, inputs, above)["output"]


def all_equations(path, inputs, above):
    """The values (T, B, ...) of all nodes."""
    graph = nir.read(path, type_check=False)
    v, steps = {}, []
    for x in inputs.double():
        values = {name: x for name, node in graph.nodes.items() if isinstance(node, nir.Input)}
        while "output" not in values:
            for name, node in graph.nodes.items():
                before = [source for source, target in graph.edges if target == name]
                if name not in values and all(source in values for source in before):
                    total = sum(values[source] for source in before)
                    values[name] = node_value(node, total, v, name, graph.metadata["dt"], above)
        steps.append(values)
    return {name: torch.stack([values[name] for values in steps]) for name in graph.nodes}


def node_value(node, x, v, name, dt, above):
    def tensor(array):
        return torch.from_numpy(np.array(array, dtype=np.float64))

    if isinstance(node, nir.Affine):
        return F.linear(x, tensor(node.weight), tensor(node.bias))
    if isinstance(node, nir.Linear):
        return F.linear(x, tensor(node.weight))
    if isinstance(node, nir.Conv2d):
        settings = (node.padding if isinstance(node.padding, str) else tuple(node.padding)), tuple(node.dilation)
        return F.conv2d(x, tensor(node.weight), tensor(node.bias), tuple(node.stride), *settings, node.groups)
    if isinstance(node, nir.SumPool2d):
        return F.avg_pool2d(x, tuple(node.kernel_size), tuple(node.stride), tuple(node.padding), divisor_override=1)
    if isinstance(node, nir.AvgPool2d):
        return F.avg_pool2d(x, tuple(node.kernel_size), tuple(node.stride), tuple(node.padding))
    if isinstance(node, nir.Scale):
        return x * tensor(node.scale)
    if isinstance(node, nir.Flatten):
        start, end = (dim if dim < 0 else dim + 1 for dim in (int(node.start_dim), int(node.end_dim)))
        return x.flatten(start, end)
    if isinstance(node, nir.Output):
        return x
    rest, tau = tensor(node.v_reset), getattr(node, "tau", None)
    v[name] = v.get(name, torch.zeros_like(x))
    current = tensor(node.r) * x
    v[name] = v[name] + dt * (current if tau is None else (tensor(node.v_leak) - v[name] + current) / tensor(tau))
    threshold = tensor(node.v_threshold)
    spikes = (v[name] > threshold) if above else (v[name] >= threshold)
    v[name] = torch.where(spikes, rest, v[name])
    return spikes.double()


def read_back(path, images):
    """The spiking network of a file and its neuron, as the command line makes them."""
    net, neuron = nir_network(path), nir_neuron(path)
    return no_norm(net, images, spiking_pools=False, readout="as_is"), neuron


def assert_written_exactly(snn, images, path, inputs=None, **settings):
    """Every spike is that of the equations in the file, and those of the file read back are as many. Returns their number.

    inputs: (T, B, C, H, W) for the equations; None: as encoded.
    """
    settings = {"encode": Rate(1000.0), "neuron": IntegrateFire(), "duration": T / 1000} | settings
    assert export_nir(snn, path, images.shape[1:], **settings) == []
    if inputs is None:
        inputs = settings["encode"](images, torch.arange(len(images)), torch.arange(T), 0.001, 0)
    nodes = nir.read(path, type_check=False).nodes
    found = all_equations(path, inputs.expand(T, *inputs.shape[1:]), getattr(settings["neuron"], "fire_above", True))
    record = simulate_stepwise(snn, images, keep=True, **settings)
    spikes = 0
    for layer in snn.layers:
        name = next((name for name in (f"{layer}_if", f"{layer}_lif", layer) if name in nodes), None)
        if isinstance(nodes.get(name), nir.IF | nir.LIF):
            expected = torch.stack([record.traces[i].spikes[layer] for i in range(len(images))], 1)
            assert torch.equal(found[name].flatten(2), expected.double().flatten(2)), layer
            spikes += int(expected.sum())
    again, neuron = read_back(path, images)
    if again.readout == "current":
        assert torch.equal(found["output"].flatten(2).cumsum(0).argmax(2), record.predicted.long())
    theirs = simulate(again, images, **settings | {"neuron": neuron})
    shared = record.spikes.keys() & theirs.spikes.keys()
    assert torch.equal(record.predicted, theirs.predicted)
    assert all(torch.equal(record.spikes[name], theirs.spikes[name]) for name in shared)
    return spikes


@pytest.mark.parametrize("above", [False, True])
def test_every_output_spike_is_that_of_the_equations_in_the_file(draw_snn, wiring, above, tmp_path):
    """Weights are on a grid, so that potentials hit the threshold exactly, and firing at or above it differ."""
    snn, images = draw_snn(wiring)
    settings = {
        "encode": Rate(1000.0),
        "neuron": IntegrateFire(fire_above=above),
        "duration": T / 1000,
        "weight_bits": 6,
    }
    assert export_nir(snn, tmp_path / "net.nir", images.shape[1:], **settings) == []
    inputs = Rate(1000.0)(images, torch.arange(len(images)), torch.arange(T), 0.001, 0)
    outputs = equations(tmp_path / "net.nir", inputs, above)
    expected = simulate_stepwise(snn, images, **settings).counts
    assert int(expected.sum()) > 10
    assert torch.equal(outputs.sum(0).int(), expected.view(outputs.shape[1:]))


def test_potentials_do_hit_the_threshold(draw_snn):
    snn, images = draw_snn("cnn")
    counts = [
        simulate(snn, images, neuron=IntegrateFire(fire_above=above), duration=T / 1000, weight_bits=6).counts
        for above in (False, True)
    ]
    assert not torch.equal(*counts)


@pytest.mark.parametrize(
    ("spiking_pools", "readout", "bits"),
    [(True, "counts", 6), (False, "counts", 16), (True, "current", None), (False, "current", 6)],
)
def test_every_spike_is_that_of_the_equations_and_of_the_file_read_back(
    draw_net, wiring, spiking_pools, readout, bits, tmp_path
):
    """At 6 bits a file that is read as other layers, with another grid, has other spikes."""
    net, images = draw_net(wiring)
    images = images[:6].float()
    snn = percentile_norm(net.float(), images, scale="channel", readout=readout, spiking_pools=spiking_pools)
    assert assert_written_exactly(snn, images, tmp_path / "net.nir", weight_bits=bits) > 200


class Bottlenecks(nn.Module):
    """Linear sums of two branches, each of which two layers read."""

    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b = nn.Conv2d(2, 3, 3, padding=1), *(nn.Conv2d(3, 3, 3, padding=1) for _ in range(2))
        self.fc = nn.Linear(108, 4)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.a(torch.relu(x))
        x = x + self.b(torch.relu(x))
        return self.fc(torch.relu(x).flatten(1))


def test_the_rounding_of_currents_is_refused_and_without_it_every_spike_is_that_of_the_equations(tmp_path):
    torch.manual_seed(0)
    net, images = Bottlenecks(), torch.rand(6, 2, 6, 6)
    for conv in (net.stem, net.a, net.b):
        conv.weight.data.add_(0.08)
    snn, path = data_norm(net, images, scale="channel", readout="current"), tmp_path / "net.nir"
    words = "rounding of the currents of layers 'stem', 'a'; simulate with simulate.weight_bits=null, or write"
    with pytest.raises(InputError, match=words):
        export_nir(snn, path, images.shape[1:])
    lost = export_nir(snn, path, images.shape[1:], lossy=True, weight_bits=8, encode=Rate(1000.0), duration=T / 1000)
    assert lost == ["the rounding of the currents of layers 'stem', 'a'"]
    inputs = Rate(1000.0)(images, torch.arange(6), torch.arange(T), 0.001, 0)
    rounded = simulate(snn, images, encode=Rate(1000.0), duration=T / 1000, weight_bits=8).spikes["relu3"]
    assert not torch.equal(all_equations(path, inputs, above=False)["relu3"].sum((1, 2, 3, 4)).long(), rounded)
    assert assert_written_exactly(snn, images, path, weight_bits=None) > 1000


@settings(max_examples=15)
@given(cnns(blocks=("plain", "residual", "fire", "averaged", "separable"), most=3))
def test_any_cnn_is_written_exactly_or_refused_in_a_line(drawn):
    """Currents that are passed on are not rounded."""
    net, images = drawn
    try:
        snn = data_norm(net, images, scale="channel", spiking_pools=False, readout="current", max_pool="average")
    except InputError:
        return
    bits = None if any(layer.kind == "current" for layer in snn.layers.values()) else 16
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.nir")
        try:
            assert_written_exactly(snn.float(), images[:3].float(), path, weight_bits=bits)
        except InputError as error:
            assert "\n" not in str(error) and "NIR" in str(error)


def test_a_thousand_images_are_classified_as_before(published, tmp_path):
    """The committed CNN of Diehl et al. 2015, on MNIST."""
    data = mnist(published("MNIST").parent)
    images, labels = data.test_images[:1000], data.test_labels[:1000]
    snn = RateSNN.load(ROOT / "outputs" / "reference" / "runs" / "diehl_cnn" / "checkpoints" / "snn.pt")
    export_nir(snn, tmp_path / "net.nir", (1, 28, 28))
    again, neuron = read_back(tmp_path / "net.nir", images[:2].float() / 255)
    ours, theirs = (simulate(network, images, neuron=neuron, encode=Rate(1000.0)) for network in (snn, again))
    assert torch.equal(ours.predicted, theirs.predicted) and torch.equal(ours.counts, theirs.counts)
    assert (ours.predicted[-1] == labels).float().mean() > 0.98


def small_net(*behind):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), *behind, nn.Flatten(), nn.LazyLinear(3))


def small_snn(*behind, **settings):
    net, images = small_net(*behind), torch.rand(20, 1, 6, 6)
    net(images)
    return data_norm(net, images, **settings), images


@pytest.mark.parametrize(
    ("behind", "settings", "words"),
    [
        (
            (),
            {"neuron": SOFT},
            "subtraction, nor start potentials of 0.5 thresholds; convert for neuron.reset=zero.*; simulate with.*--lossy",
        ),
        ((), {"neuron": IntegrateFire(start=0.5)}, "start potentials of 0.5 thresholds; simulate with neuron.start=0"),
        ((), {"neuron": IntegrateFire(t_ref=0.002)}, "a refractory period of 0.002 s"),
        ((nn.MaxPool2d(2),), {}, "the max-pool 'maxpool1'.*convert.max_pool=average"),
    ],
)
def test_what_nir_cannot_say_is_refused_by_name_or_written_with_a_note(behind, settings, words, tmp_path):
    snn, images = small_snn(*behind)
    path = tmp_path / "net.nir"
    with pytest.raises(InputError, match=words) as caught:
        export_nir(snn, path, images.shape[1:], **settings)
    assert "\n" not in str(caught.value) and not path.exists()
    lost = export_nir(snn, path, images.shape[1:], lossy=True, **settings)
    assert nir.read(path).metadata["lost"] == "; ".join(lost) and lost[0] in str(caught.value)


def test_a_lossy_file_is_read_back_here_without_loss(tmp_path):
    snn, images = small_snn()
    soft = {"encode": Rate(1000.0), "duration": T / 1000, "neuron": SOFT}
    export_nir(snn, tmp_path / "net.nir", images.shape[1:], lossy=True, **soft)
    again, neuron = read_back(tmp_path / "net.nir", images)
    assert neuron == SOFT
    assert torch.equal(simulate(snn, images, **soft).counts, simulate(again, images, **soft).counts)


def test_a_leaky_neuron_that_resets_by_subtraction_is_read_back(tmp_path):
    snn, images = small_snn()
    leaky = {"encode": Rate(1000.0), "duration": T / 1000, "neuron": LIF(v_th=1.0, tau=0.5, reset="subtract")}
    export_nir(snn, tmp_path / "net.nir", images.shape[1:], lossy=True, **leaky)
    again, neuron = read_back(tmp_path / "net.nir", images)
    assert neuron.reset == "subtract"
    assert torch.equal(
        simulate(snn, images, **leaky).counts, simulate(again, images, **leaky | {"neuron": neuron}).counts
    )


def test_spike_times_some_biases_by_place_and_odd_pools_have_no_form_at_all(tmp_path):
    net, images = small_net(), torch.rand(20, 1, 6, 6)
    net(images)
    with pytest.raises(InputError, match="NIR has no spike times"):
        export_nir(exact_map(net, images), tmp_path / "net.nir", (1, 6, 6), lossy=True)
    snn, _ = small_snn(nn.AdaptiveAvgPool2d(3), spiking_pools=False)
    with pytest.raises(InputError, match="windows of unequal size"):
        export_nir(snn, tmp_path / "net.nir", (1, 6, 6), lossy=True)
    shifted = nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 2, 2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(98, 3))
    shifted[0].running_mean.fill_(0.5)
    snn = data_norm(shifted.eval(), images)
    with pytest.raises(InputError, match="no bias that varies over spatial positions, as layer"):
        export_nir(snn, tmp_path / "net.nir", (1, 6, 6), lossy=True)


@pytest.mark.parametrize("conv", [(3, 1, 1), (7, 2, 3), ((3, 5), 1, (2, 4), 2, 2)])
def test_a_shift_in_front_of_zero_padding_is_said_by_a_channel_of_ones(conv, tmp_path):
    """Batch norms that shift images and maps; conv: arguments of Conv2d from the kernel on."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.BatchNorm2d(2), nn.Conv2d(2, 4, *conv), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.LazyLinear(3),
    )  # fmt: skip
    images = torch.rand(20, 2, 9, 8)
    net(images)
    snn = data_norm(net.eval(), images)
    assert [layer.bias.ndim for layer in snn.layers.values()] == [3, 3, 1]
    rate = {"encode": Rate(1000.0), "duration": T / 1000}
    export_nir(snn, tmp_path / "net.nir", images.shape[1:], **rate)
    inputs = Rate(1000.0)(images, torch.arange(len(images)), torch.arange(T), 0.001, 0)
    expected = simulate(snn, images, **rate).counts
    assert torch.equal(equations(tmp_path / "net.nir", inputs, above=False).sum(0).int(), expected) and expected.any()
    again, neuron = read_back(tmp_path / "net.nir", images)
    assert len(again.layers) == 3 and torch.equal(simulate(again, images, neuron=neuron, **rate).counts, expected)


def test_grouped_and_oblong_convolutions_are_written_so_that_nir_itself_can_read_them(tmp_path):
    torch.manual_seed(1)
    conv = nn.Conv2d(2, 4, (3, 5), padding=(1, 2), groups=2)
    net = nn.Sequential(conv, nn.ReLU(), nn.Conv2d(4, 4, 3, groups=4), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))
    images = torch.rand(20, 2, 6, 7)
    net(images)
    snn = data_norm(net, images)
    rate = {"encode": Rate(1000.0), "duration": T / 1000}
    export_nir(snn, tmp_path / "net.nir", images.shape[1:], **rate)
    nodes = nir.read(
        tmp_path / "net.nir"
    ).nodes.values()  # checks its types, which nir 1.0.8 does wrongly for the original
    assert all(
        node.groups == 1 and node.weight.shape[2] == node.weight.shape[3]
        for node in nodes
        if isinstance(node, nir.Conv2d)
    )
    again, neuron = read_back(tmp_path / "net.nir", images)
    assert torch.equal(simulate(snn, images, **rate).counts, simulate(again, images, neuron=neuron, **rate).counts)


@pytest.mark.parametrize(
    "conv", [{"kernel_size": 4}, {"kernel_size": 2, "dilation": (1, 3)}, {"kernel_size": (2, 3)}], ids=str
)
def test_a_padding_that_differs_by_side_stays_a_word(conv, tmp_path):
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(2, 4, padding="same", **conv), nn.ReLU(), nn.Flatten(), nn.Linear(224, 3))
    images = torch.rand(6, 2, 7, 8)
    assert assert_written_exactly(data_norm(net, images), images, tmp_path / "net.nir", weight_bits=6) > 200


class Joined(nn.Module):
    """Maps that are concatenated, flattened, and padded as features."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(1, 2, 3), nn.Conv2d(1, 3, 3), nn.Linear(80, 5)
        self.d, self.e = nn.Linear(80, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = torch.relu(torch.cat([self.a(x), self.b(x)], 1)).flatten(1)
        return self.e(torch.relu(self.d(x) + F.pad(torch.relu(self.c(x)), (1, 2))))


def test_concatenated_maps_and_padded_features_keep_their_order(tmp_path):
    torch.manual_seed(1)
    net, images = Joined(), torch.rand(6, 1, 6, 6)
    assert assert_written_exactly(data_norm(net, images), images, tmp_path / "net.nir") > 200


def synapse(source, inputs, outputs):
    """A 3x3 convolution with weights that make its readers spike."""
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    conv.weight.data.abs_()
    return Synapse(source, conv)


def test_a_layer_that_is_read_twice_by_another_has_two_edges(tmp_path):
    """Spikes twice; and currents on their own and in a sum."""
    torch.manual_seed(0)
    images = torch.rand(6, 2, 5, 5)
    spikes = {
        "a": SpikingLayer("relu", [synapse("input", 2, 3)]),
        "o": SpikingLayer("relu", [Synapse("a"), Synapse("a")]),
    }
    sums = {
        "a": SpikingLayer("current", [synapse("input", 2, 3)]),
        "b": SpikingLayer("current", [synapse("input", 2, 3), Synapse("a")]),
        "o": SpikingLayer("relu", [Synapse("a"), Synapse("b")]),
    }
    for layers, bits in ((spikes, 6), (sums, None)):
        snn = RateSNN(layers).requires_grad_(False)
        assert assert_written_exactly(snn, images, tmp_path / "net.nir", weight_bits=bits) > 200


def test_a_pool_of_currents_that_no_neuron_reads_is_their_mean(tmp_path):
    torch.manual_seed(0)
    layers = {
        "a": SpikingLayer("relu", [synapse("input", 2, 3)]),
        "pool": SpikingLayer("current", [Synapse("a", nn.AvgPool2d(2))]),
        "o": SpikingLayer("relu", [synapse("pool", 3, 3)]),
    }
    snn, images = RateSNN(layers).requires_grad_(False), torch.rand(6, 2, 6, 6)
    layers["o"].synapses[0][0].weight.data.mul_(0.3)
    assert assert_written_exactly(snn, images, tmp_path / "net.nir", weight_bits=None) > 200


@pytest.mark.parametrize(
    ("pool", "side", "fits"),
    [
        (nn.AvgPool2d(2, ceil_mode=True), 8, True),
        (nn.AvgPool2d(2, ceil_mode=True, divisor_override=4), 8, True),
        (nn.AvgPool2d(2, ceil_mode=True), 7, False),
        (nn.AvgPool2d(2, ceil_mode=True, divisor_override=4), 7, False),
    ],
    ids=str,
)
@pytest.mark.parametrize("spiking_pools", [False, True])
def test_pools_whose_windows_are_equal_are_written(pool, side, fits, spiking_pools, tmp_path):
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), pool, nn.Flatten(), nn.Linear(32, 3))
    images = torch.rand(6, 1, side, side)
    snn = data_norm(net, images, spiking_pools=spiking_pools)
    if fits:
        assert assert_written_exactly(snn, images, tmp_path / "net.nir") > 200
    else:
        with pytest.raises(InputError, match="no average pools with windows of unequal size, as before layer"):
            export_nir(snn, tmp_path / "net.nir", (1, side, side))


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (Pad((0, 1, 0, 0)), "no padding that differs by side, as before layer 'fc'"),
        (Pad((-1, -1, 0, 0)), "no padding that differs by side, as before layer 'fc'"),
        (Slice([(None,) * 3, (1, None, None)]), "no slices but every n-th position, as before layer 'fc'"),
        (Slice([(None,) * 3, (None, 4, None)]), "no slices but every n-th position, as before layer 'fc'"),
        (nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular", bias=False), "layer 'fc' pads by circular"),
        (nn.PixelShuffle(1), "no counterpart of the PixelShuffle before layer 'fc'"),
    ],
    ids=str,
)
def test_paths_that_nir_cannot_say_are_refused(module, words, tmp_path):
    synapses = [Synapse("input", module, nn.Flatten(), nn.LazyLinear(3, bias=False))]
    synapses[0](torch.rand(2, 1, 6, 6))
    with pytest.raises(InputError, match=words):
        export_nir(RateSNN({"fc": SpikingLayer("relu", synapses)}), tmp_path / "net.nir", (1, 6, 6), lossy=True)


def test_a_lossy_max_pool_is_the_average_of_its_windows(tmp_path):
    snn, images = small_snn(nn.MaxPool2d(3, 2, 1))
    path = tmp_path / "net.nir"
    assert export_nir(snn, path, images.shape[1:], lossy=True) == [
        "the max-pool 'maxpool1', which becomes an average pool"
    ]
    values = all_equations(path, Rate(1000.0)(images, torch.arange(20), torch.arange(T), 0.001, 0), above=False)
    (pooled,) = (source for source, target in nir.read(path).edges if target == "linear1_flatten")
    expected = F.avg_pool2d(values["conv1_if"].flatten(0, 1), 3, 2, 1).unflatten(0, (T, 20))
    assert expected.any() and torch.allclose(values[pooled], expected)


def test_the_start_potentials_of_a_layer_are_refused_or_left_out(tmp_path):
    snn, images = small_snn()
    export_nir(snn, tmp_path / "zero.nir", images.shape[1:])
    snn.layers["conv1"].start = torch.full((4, 4, 4), 0.4)
    with pytest.raises(InputError, match="the start potentials of layer 'conv1'; convert without them"):
        export_nir(snn, tmp_path / "net.nir", images.shape[1:])
    assert export_nir(snn, tmp_path / "net.nir", images.shape[1:], lossy=True) == [
        "the start potentials of layer 'conv1'"
    ]
    inputs = Rate(1000.0)(images, torch.arange(20), torch.arange(T), 0.001, 0)
    files = (equations(tmp_path / name, inputs, above=False) for name in ("zero.nir", "net.nir"))
    assert torch.equal(*files)


def test_an_analog_input_lies_on_the_grid_as_well(tmp_path):
    """Given the rounded pixels, the equations have the same spikes."""
    snn, images = small_snn(nn.ReLU(), nn.AvgPool2d(2))
    rounded = ((images * 32).round() / 32)[None]
    assert assert_written_exactly(snn, images, tmp_path / "net.nir", rounded, encode=Current(), weight_bits=6) > 200


def test_an_analog_input_and_a_class_read_from_the_current_survive(tmp_path):
    snn, images = small_snn(readout="current")
    current = {"encode": Current(), "neuron": IntegrateFire(fire_above=True), "duration": T / 1000, "weight_bits": None}
    export_nir(snn, tmp_path / "net.nir", images.shape[1:], **current)
    outputs = equations(tmp_path / "net.nir", images.expand(T, *images.shape), above=True)
    record = simulate(snn, images, **current)
    assert torch.equal(outputs.sum(0).argmax(1), record.predicted[-1].long())
    again, neuron = read_back(tmp_path / "net.nir", images)
    same = simulate(again, images, **current | {"neuron": neuron})
    assert all(torch.equal(record.spikes[name], same.spikes[name]) for name in record.spikes)


@pytest.mark.parametrize("mean", [None, [0.5]])
def test_a_directly_trained_network_spikes_by_the_equations_in_its_file(mean, tmp_path):
    """In float32 and float64, so that no two potentials differ in where they lie to the threshold but by chance."""
    torch.manual_seed(0)
    net = SpikingResNet19(steps=4, stem=64, width_mult=0.03, blocks=[1, 1], hidden=8, classes=5, mean=mean, std=mean)
    for module in net.modules():
        if isinstance(module, TdBN):
            module.running_mean.normal_(0, 0.05), module.bias.data.uniform_(0, 0.3)
    for fc in (net.fc1, net.fc2):
        fc.weight.data.mul_(2), fc.bias.data.uniform_(0, 0.4)
    images = torch.rand(8, 1, 12, 12)
    export_nir(net, tmp_path / "net.nir", images.shape[1:])
    assert isinstance(nir.read(tmp_path / "net.nir").nodes["fc2_lif"], nir.LIF)
    outputs = equations(tmp_path / "net.nir", images.expand(4, *images.shape), above=True)
    with torch.no_grad():
        expected = net.eval().spikes(images)
    assert int(expected.sum()) > 20 and torch.equal(outputs, expected.double())
    again, neuron = read_back(tmp_path / "net.nir", images)
    assert neuron.tau == pytest.approx(0.25) and simulated(tmp_path / "net.nir")["duration"] == 0.004
    record = simulate(again, images, encode=Current(), neuron=neuron, duration=0.004, weight_bits=None)
    assert torch.equal(record.counts, expected.sum(0).to(record.counts))


def graph_of(*nodes, shape, metadata=None):
    listed = [nir.Input(np.array(shape)), *nodes]
    made = nir.NIRGraph.from_list(*listed)
    made.metadata = metadata or {}
    return made


def if_node(threshold, r=1.0):
    threshold = np.asarray(threshold, dtype=np.float32)
    return nir.IF(r=np.full(threshold.shape, r, np.float32), v_threshold=threshold)


def lif_node(n, tau, r=1.0, v_threshold=1.0):
    values = {"tau": tau, "r": r, "v_leak": 0.0, "v_threshold": v_threshold}
    return nir.LIF(**{name: np.full(n, value) for name, value in values.items()})


def random(*shape, seed=0):
    """Multiples of 1/16, which no order of summation rounds."""
    draws = torch.randint(-8, 16, shape, generator=torch.Generator().manual_seed(seed))
    return (draws / 16).numpy().astype(np.float32)


READ = {  # graphs as other libraries write them
    "a threshold for each channel": graph_of(
        nir.Conv2d((6, 6), random(4, 1, 3, 3), 1, 0, 1, 1, random(4)),
        if_node(np.broadcast_to(np.array([0.5, 1, 2, 4])[:, None, None], (4, 4, 4))),
        nir.SumPool2d(np.array([3, 3]), np.array([1, 1]), np.array([0, 0])),
        if_node(np.full((4, 2, 2), 9.0)),
        nir.Flatten({"input": np.array([4, 2, 2])}, 0),
        nir.Affine(random(5, 16, seed=1), random(5, seed=2)),
        if_node([0.5, 1, 2, 1, 0.25]),
        shape=(1, 6, 6), metadata={"dt": 1.0},
    ),
    "a resistance of 1 / dt, as SpikingJelly's": graph_of(
        nir.Linear(random(8, 36)), if_node(np.ones(8), r=1e4), nir.Linear(random(5, 8)), if_node(np.ones(5), r=1e4),
        shape=(36,), metadata={"dt": 1e-4},
    ),
    "averages and factors": graph_of(
        nir.Conv2d((6, 6), random(4, 1, 3, 3), 1, 0, 1, 1, random(4)),
        if_node(np.ones((4, 4, 4))),
        nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        nir.Scale(np.array([0.5, 1, 2, 4], dtype=np.float32)[:, None, None] * np.ones((4, 2, 2), dtype=np.float32)),
        nir.Flatten({"input": np.array([4, 2, 2])}, 0),
        nir.Affine(random(5, 16, seed=1), random(5, seed=2)),
        if_node(np.ones(5)),
        shape=(1, 6, 6), metadata={"dt": 1.0},
    ),
    "leaky, as Norse's": graph_of(
        nir.Affine(random(8, 36), random(8)), lif_node(8, 2.0), nir.Affine(random(5, 8), random(5)), lif_node(5, 2.0, 1.0, 0.5),
        shape=(36,), metadata={"dt": 1.0},
    ),
    "leaky with r = tau / dt, as SpikingJelly's": graph_of(
        nir.Linear(random(8, 36)), lif_node(8, 4e-4, 4.0), nir.Linear(random(5, 8)), lif_node(5, 4e-4, 4.0),
        shape=(36,), metadata={"dt": 1e-4},
    ),
    "sums of 9 spikes, with a threshold of 9": graph_of(
        nir.Conv2d((6, 6), np.sign(random(4, 1, 3, 3)) / 2, 1, 1, 1, 1, np.zeros(4, dtype=np.float32)),
        if_node(np.full((4, 6, 6), 0.5)),
        nir.SumPool2d(np.array([3, 3]), np.array([1, 1]), np.array([0, 0])),
        if_node(np.full((4, 4, 4), 9.0)),
        nir.Flatten({"input": np.array([4, 4, 4])}, 0),
        nir.Affine(np.sign(random(5, 64, seed=1)) / 2, np.zeros(5, dtype=np.float32)),
        if_node(np.ones(5)),
        shape=(1, 6, 6), metadata={"dt": 1.0},
    ),
    "a channel of ones, also on its own padding": graph_of(
        nir.Conv2d((6, 6), np.eye(2, 1, dtype=np.float32)[:, :, None, None], 1, 1, 1, 1, np.eye(2, dtype=np.float32)[1]),
        nir.Conv2d((8, 8), random(4, 2, 3, 3), 1, 0, 1, 1, random(4)),
        if_node(np.ones((4, 6, 6))),
        nir.Flatten({"input": np.array([4, 6, 6])}, 0),
        nir.Affine(random(5, 144, seed=1), random(5, seed=2)),
        if_node(np.ones(5)),
        shape=(1, 6, 6), metadata={"dt": 1.0},
    ),
    "images read twice, past a node that is named input": nir.NIRGraph(
        {
            "images": nir.Input(np.array([36])), "input": nir.Linear(random(5, 36)), "if": if_node(np.ones(5)),
            "skip": nir.Linear(random(5, 36, seed=1)), "last": if_node(np.ones(5)), "output": nir.Output(np.array([5])),
        },
        [("images", "input"), ("input", "if"), ("if", "last"), ("images", "skip"), ("skip", "last"), ("last", "output")],
        {"dt": 1.0},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_graphs_of_others_spike_by_their_equations(name, tmp_path):
    path = tmp_path / "net.nir"
    nir.write(path, READ[name])
    images = torch.rand(12, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    again, neuron = read_back(path, images)
    bits = 4 if "threshold of 9" in name else 16  # too few for a factor of 1/9
    record = simulate(again, images, neuron=neuron, encode=Rate(1000.0), duration=T / 1000, weight_bits=bits)
    inputs = Rate(1000.0)(images, torch.arange(len(images)), torch.arange(T), 0.001, 0)
    (entry,) = (node for node in READ[name].nodes.values() if isinstance(node, nir.Input))
    flat = len(entry.input_type["input"]) == 1
    outputs = equations(path, inputs.flatten(2) if flat else inputs, above=True)
    assert int(outputs.sum()) > 20 and torch.equal(outputs.sum(0).int(), record.counts.int())


def test_the_time_step_and_where_it_fires_can_be_given(tmp_path):
    path = tmp_path / "net.nir"
    nir.write(path, graph_of(nir.Linear(random(5, 36)), lif_node(5, 4e-4, 4.0), shape=(36,)))
    with pytest.raises(InputError, match=r"does not say the time step.*model\.dt=0\.0001.*model\.dt=1e-6"):
        nir_network(path)
    assert nir_neuron(path, dt=1e-4) == LIF(v_th=1.0, tau=0.75)
    nir.write(path, graph_of(nir.Linear(random(5, 36)), if_node(np.ones(5)), shape=(36,)))
    assert nir_neuron(path).fire_above and not nir_neuron(path, fires="at").fire_above


def unchecked(nodes, *edges):
    """A graph whose types nir does not check."""
    return nir.NIRGraph(nodes, edges, {"dt": 1.0}, type_check=False)


def flattened(start, end, width):
    """A graph of 4x3x3 images whose Affine reads `width` values."""
    ends = {"input": nir.Input(np.array([4, 3, 3])), "output": nir.Output(np.array([5]))}
    nodes = {"flatten": nir.Flatten({"input": np.array([4, 3, 3])}, start, end), "if": if_node(np.ones(5))}
    nodes["affine"] = nir.Affine(random(5, width), random(5))
    edges = ("input", "flatten"), ("flatten", "affine"), ("affine", "if"), ("if", "output")
    return unchecked(ends | nodes, *edges)


@pytest.mark.parametrize(("start", "end"), [(0, -1), (-3, -1), (0, 2), (1, -1)])
def test_a_flatten_of_all_axes_is_read_however_they_are_counted(start, end, tmp_path):
    """The last as torch counts them, with the batch: the weights behind it read all values."""
    nir.write(tmp_path / "net.nir", flattened(start, end, 36))
    images = torch.rand(2, 4, 3, 3)
    assert torch.equal(nir_network(tmp_path / "net.nir").flatten(images), images.flatten(1))


def test_a_flatten_of_some_dimensions_is_not_written(tmp_path):
    layer = SpikingLayer("relu", [Synapse("input", nn.Flatten(2), nn.Linear(36, 3, bias=False))])
    with pytest.raises(InputError, match="layer 'fc' reads a Flatten of the dimensions 2 to -1"):
        export_nir(RateSNN({"fc": layer}), tmp_path / "net.nir", (1, 6, 6))


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        (
            lambda: graph_of(nir.Conv1d(36, random(1, 1, 3), 1, 0, 1, 1, random(1)), shape=(1, 36)),
            "node 'conv1d' is a Conv1d",
        ),
        (
            lambda: graph_of(
                nir.Linear(random(5, 36)), lif_node(5, 2.0), nir.Linear(random(3, 5)), lif_node(3, 4.0), shape=(36,)
            ),
            "'lif' keep 0.5 of their potential at each step, 'lif_1' 0.75",
        ),
        (
            lambda: graph_of(nir.IF(np.ones(36), np.ones(36), np.full(36, -1.0)), shape=(36,)),
            "v_reset of 'if' is not 0",
        ),
        (
            lambda: graph_of(nir.Linear(random(5, 36)), lif_node(5, 0.0), shape=(36,)),
            "tau of 'lif' must be one number above 0",
        ),
        (
            lambda: graph_of(if_node(1 + np.arange(36.0).reshape(1, 6, 6)), shape=(1, 6, 6)),
            "v_threshold and r of 'if' differ within a channel",
        ),
        (
            lambda: nir.NIRGraph(
                {"input": nir.Input(np.array([2])), "a": if_node(np.ones(2)), "output": nir.Output(np.array([2]))},
                [("input", "a"), ("a", "a"), ("a", "output")],
            ),
            "the graph is recurrent",
        ),
        (
            lambda: unchecked({"a": if_node(np.ones(2)), "output": nir.Output(np.array([2]))}, ("a", "output")),
            r"no node of type Input \('a' \(IF\), 'output' \(Output\)\); exactly one is needed, where images enter",
        ),
        (
            lambda: unchecked({"input": nir.Input(np.array([2])), "a": if_node(np.ones(2))}, ("input", "a")),
            "no node of type Output",
        ),
        (lambda: flattened(1, -1, 9), "Flatten 'flatten' merges the axes 1 to -1 of an input of 4x3x3"),
        (lambda: flattened(0, 1, 12), "Flatten 'flatten' merges the axes 0 to 1 of an input of 4x3x3"),
    ],
)
def test_graphs_that_cannot_be_simulated_are_refused_by_the_name_of_a_node(graph, words, tmp_path):
    made = graph()
    made.metadata = {"dt": 1.0}
    nir.write(tmp_path / "net.nir", made)
    with pytest.raises(InputError, match=words) as caught:
        nir_network(tmp_path / "net.nir")
        nir_neuron(tmp_path / "net.nir")
    assert "\n" not in str(caught.value) and "net.nir" in str(caught.value)


def test_a_resistance_of_0_is_refused_where_it_is_the_time_step(tmp_path):
    nir.write(tmp_path / "net.nir", graph_of(nir.Linear(random(5, 36)), if_node(np.ones(5), r=0.0), shape=(36,)))
    with pytest.raises(InputError, match="r of 'if' must be one number above 0"):
        nir_network(tmp_path / "net.nir")


def test_neurons_of_different_gains_need_the_time_step(tmp_path):
    """Divided each by its own r, the layers would have different time steps."""
    graph = graph_of(
        nir.Linear(random(8, 36)),
        if_node(np.ones(8)),
        nir.Linear(random(5, 8)),
        if_node(np.ones(5), r=2.0),
        shape=(36,),
    )
    nir.write(tmp_path / "net.nir", graph)
    with pytest.raises(InputError, match=r"r is 1 and 2 in one network, .* type model.dt="):
        nir_network(tmp_path / "net.nir")
    assert len(nir_network(tmp_path / "net.nir", dt=1.0).factors) == 1


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"dt": "soon"}, "dt of its metadata is 'soon'"),
        ({"dt": 0.0}, "a time step of 0"),
        ({"start": "x"}, "start of its"),
    ],
)
def test_metadata_that_are_no_numbers_are_a_line(metadata, words, tmp_path):
    nir.write(
        tmp_path / "net.nir", graph_of(nir.Linear(random(5, 36)), if_node(np.ones(5)), shape=(36,), metadata=metadata)
    )
    with pytest.raises(InputError, match=words):
        nir_neuron(tmp_path / "net.nir")


def test_files_that_are_missing_or_hold_something_else_are_a_line(tmp_path):
    with pytest.raises(InputError, match=r"no such file; give a NIR graph as model\.path=net\.nir"):
        nir_network(tmp_path / "net.nir")
    (tmp_path / "net.nir").write_bytes(b"nothing")
    with pytest.raises(InputError, match="not a NIR graph, or a damaged one"):
        nir_network(tmp_path / "net.nir")
    nir.write(tmp_path / "net.nir", if_node(np.ones(2)))
    with pytest.raises(InputError, match=r"net\.nir: holds a single node, of type IF.*write nir\.NIRGraph\.from_list"):
        nir_network(tmp_path / "net.nir")
    nir.write(tmp_path / "net.nir", nir.NIRGraph.from_list(if_node(np.ones(2))))
    assert torch.equal(nir_network(tmp_path / "net.nir")(torch.tensor([[-1.0, 0.5]])), torch.tensor([[0.0, 0.5]]))
