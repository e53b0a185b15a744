"""Training in spike time is ReLU training in other variables; what hardware does to spikes is what training did to them."""

import copy
import functools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from respike.convert import b1_map, exact_map
from respike.convert.exact.spike_time_net import set_intervals, spike_time_net
from respike.convert.graph.nodes import BiasMapConv2d
from respike.errors import InputError
from respike.metrics.ttfs import ttfs_metrics
from respike.networks.exact_fc import ExactFC
from respike.networks.lenet import LeNet5
from respike.networks.spike_times import Hardware, SpikeTimes, smooth_count
from respike.networks.standardize import Standardize
from respike.networks.vgg import VGG
from respike.simulate.ttfs import simulate_ttfs
from respike.training.classifier import Classifier
from respike.training.spike_time_classifier import SpikeTimeClassifier

STEPS = 100


def fc(dropout=0.0):
    torch.manual_seed(0)
    return ExactFC([36, 30, 20, 4], dropout).double()


def cnn():
    torch.manual_seed(0)
    return VGG([6, 6, "P", 8], [12], (1, 6, 6), 4, batch_norm=False).double()


NETS = {"fc": fc, "dropout": lambda: fc(0.3), "cnn": cnn}


def data(count=64, seed=1):
    random = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 1, 6, 6, generator=random, dtype=torch.float64)
    return images, (images.flatten(1) @ torch.rand(36, 4, generator=random).double()).argmax(1)


def module_of(kind, net, optimizer=None, **settings):
    optimizer = optimizer or functools.partial(torch.optim.SGD, lr=0.05, momentum=0.9)
    return kind(net, F.cross_entropy, optimizer, **settings)


def losses(module, steps=STEPS):
    """The losses of a training, and the network; batches and dropout masks depend on the step alone."""
    images, labels = data()
    optimizer = module.make_optimizer(module.net.parameters())
    module.train()
    curve = []
    for step in range(steps):
        torch.manual_seed(step)
        chosen = torch.randperm(len(images))[:16]
        loss = F.cross_entropy(module(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for layer in module.modules():
            if isinstance(layer, SpikeTimes):
                layer.widen(10.0)
        curve.append(loss.item())
    return torch.tensor(curve, dtype=torch.float64)


class AbsoluteTimes(nn.Module):
    """The oracle: the published closed form in absolute times, t_i = t_max - D_i - sum_j W_ij (t_min - t_j)."""

    def __init__(self, net, length):
        super().__init__()
        self.net, self.length = net, length

    def forward(self, images):
        t_min, times = 1.0, 1 - images
        layers = list(self.net)
        for layer, following in zip(layers, [*layers[1:], None], strict=True):
            if isinstance(layer, nn.Linear | nn.Conv2d):
                drive = layer(t_min - times)  # zero padding is an input that spikes at t_min
                if following is None:
                    return drive
                t_max = t_min + self.length
                times = torch.minimum(t_max - drive, torch.tensor(t_max, dtype=torch.float64))
                t_min = t_max
            elif isinstance(layer, nn.MaxPool2d):
                times = -layer(-times)  # the earliest spike
            elif isinstance(layer, nn.Flatten):
                times = layer(times)


@pytest.mark.parametrize(
    ("name", "optimizer"), [("fc", torch.optim.Adam), ("dropout", torch.optim.SGD), ("cnn", torch.optim.SGD)]
)
def test_its_losses_are_those_of_relu_training(name, optimizer):
    make = functools.partial(optimizer, lr=0.05 if optimizer is torch.optim.SGD else 0.003)
    relu = losses(module_of(Classifier, NETS[name](), make))
    spiking = module_of(SpikeTimeClassifier, NETS[name](), make)
    spiking.prepare(data()[0])
    assert len(spiking.spike_layers()) == str(NETS[name]()).count("ReLU")
    assert relu[-1] < 0.8 * relu[0]
    torch.testing.assert_close(losses(spiking), relu, rtol=0, atol=1e-10)
    assert spiking.latency == 1 + 1500 * len(spiking.spike_layers())  # X_n = 1000: no interval grew


@pytest.mark.parametrize("name", ["cnn"])
def test_its_losses_are_those_of_the_published_form_in_absolute_times(name):
    oracle = module_of(Classifier, AbsoluteTimes(NETS[name](), 100.0))
    spiking = module_of(SpikeTimeClassifier, NETS[name](), largest=40.0, zeta=1.5)
    spiking.prepare(data()[0])
    torch.testing.assert_close(losses(spiking), losses(oracle), rtol=0, atol=1e-10)


@pytest.mark.parametrize("factor", [1.001, 1e6])
def test_gradients_are_those_of_relus_for_any_interval_beyond_the_largest_activation(factor):
    images, labels = data()
    reference = cnn()
    F.cross_entropy(reference(images), labels).backward()
    net = spike_time_net(cnn(), images, (0.0, 1.0), 1.0)
    set_intervals(net, images, factor)
    F.cross_entropy(net(images), labels).backward()
    for own, weight in zip(net.parameters(), reference.parameters(), strict=True):
        assert torch.equal(own.grad, weight.grad)
    assert not any(layer.length.requires_grad for layer in net.modules() if isinstance(layer, SpikeTimes))


def test_an_activation_above_a_fixed_interval_is_a_spike_at_t_min_without_gradient():
    layer = SpikeTimes(2.0, saturates=True)
    x = torch.tensor([[-1.0, 0.5, 1.9, 2.5]], requires_grad=True)
    for mode in (True, False):
        x.grad = None
        leads = layer.train(mode)(x)
        leads.sum().backward()
        assert leads.tolist() == [[0, 0.5, pytest.approx(1.9), 2]] and x.grad.tolist() == [[0, 1, 1, 0]]
    layer.widen(10.0)
    assert layer.length == 2


def test_intervals_grow_by_gamma_and_never_shrink():
    layer = SpikeTimes(1.0)
    for largest, length in ((0.05, 1.0), (0.3, 3.0), (0.2, 3.0)):
        layer.train()(torch.tensor([[largest, -1.0]]))
        layer.widen(10.0)
        assert float(layer.length) == pytest.approx(length)


def trained(name="fc", **settings):
    module = module_of(SpikeTimeClassifier, NETS[name](), **settings)
    module.prepare(data()[0])
    losses(module, 40)
    module.eval()
    return module


@pytest.mark.parametrize("settings", [{}, {"time_noise": 0.05, "levels": 32}, {"alpha_noise": 0.05}])
@pytest.mark.parametrize("convert", [b1_map, exact_map])
def test_the_trained_spiking_net_is_its_relu_reading(convert, settings):
    module, images = trained("cnn", largest=None, gamma=1.5, **settings), data(500, 2)[0]
    snn = convert(module.net, images)
    records = [simulate_ttfs(snn, images) for _ in range(2)]
    with torch.no_grad():
        expected = module(images)
    torch.testing.assert_close(records[0].logits, expected, rtol=1e-9, atol=1e-9)
    assert torch.equal(records[0].predicted, expected.argmax(1)) and torch.equal(records[0].logits, records[1].logits)


def test_the_b1_network_and_the_one_of_the_exact_mapping_agree_on_every_image():
    module, images = trained("fc"), data(500, 2)[0]
    ours, theirs = (simulate_ttfs(convert(module.net, images), images) for convert in (b1_map, exact_map))
    assert torch.equal(ours.predicted, theirs.predicted)
    torch.testing.assert_close(ours.logits, theirs.logits, rtol=1e-9, atol=1e-9)
    assert {name: counts.active for name, counts in ours.counts.items()} == {
        name: counts.active for name, counts in theirs.counts.items()
    }


def test_a_saturating_network_is_itself_as_b1_neurons_and_is_refused_by_the_exact_mapping():
    module, images = trained("fc", quantile=0.7, zeta=0.0), data(200, 2)[0]
    snn = b1_map(module.net, images)
    assert snn.latency == pytest.approx(module.latency, rel=1e-6)
    record = simulate_ttfs(snn, images)
    with torch.no_grad():
        torch.testing.assert_close(record.logits, module(images), rtol=1e-9, atol=1e-9)
    assert sum(counts.early for counts in record.counts.values()) > 0  # spikes at t_min
    with pytest.raises(InputError, match="type convert=none"):
        exact_map(module.net, images)


def test_jitter_is_noise_on_activations_except_where_silent_neurons_speak():
    images, sigma = data()[0], 0.05
    module = module_of(SpikeTimeClassifier, fc(), largest=None, time_noise=sigma)
    module.prepare(images)
    module.hardware = Hardware()  # the input as it is
    seen = []
    for layer in module.spike_layers().values():
        layer.register_forward_hook(lambda layer, inputs, output: seen.append((inputs[0].relu(), output)))
    torch.manual_seed(3)
    module.train()(images)
    torch.manual_seed(3)
    for clean, jittered in seen:
        noise = sigma * torch.randn_like(clean)
        active = clean > 0
        torch.testing.assert_close(jittered[active], (clean + noise)[active].clamp(min=0), rtol=0, atol=1e-12)
        assert 0.3 < float((jittered[~active] > 0).double().mean()) < 0.7


@pytest.mark.parametrize("neurons", ["b1", "alpha"])
def test_a_drive_that_is_off_does_in_training_what_it_does_to_the_spiking_network(neurons):
    """With the same deviations on each neuron, leads in training are those of the simulated network."""
    images = data()[0]
    torch.manual_seed(0)
    net = [nn.Flatten(), nn.Linear(36, 20), nn.ReLU(), nn.Linear(20, 15), nn.ReLU(), nn.Linear(15, 4)]
    net = nn.Sequential(*net).double()
    net[1].weight.data[:8] += 0.1 * torch.tensor([1.0, -10.0]).repeat(4)[:, None]  # sums that the exact mapping bounds
    net = spike_time_net(net, images, (0.0, 1.0), 1.0, hardware=Hardware(alpha_noise=0.02, neurons=neurons))
    with torch.no_grad():  # as a training step may
        net[1].weight[:8] *= 3
    set_intervals(net, images, 1.5)
    torch.manual_seed(5)
    potentials = net.train()(images)
    snn = (b1_map if neurons == "b1" else exact_map)(net, images)
    torch.manual_seed(5)
    for name, trained_layer in (("linear1", net[2]), ("linear2", net[4])):
        layer = snn.layers[name]
        layer.alpha = 1 + 0.02 * torch.randn(layer.synapses.out_features, dtype=torch.float64)
        assert float(layer.t_max - layer.t_min) == pytest.approx(float(trained_layer.length), rel=1e-6)
    torch.testing.assert_close(simulate_ttfs(snn, images).logits, potentials.detach(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("neurons", ["b1", "alpha"])
def test_levels_in_training_are_those_of_the_simulation(neurons):
    images = data()[0]
    module = module_of(SpikeTimeClassifier, fc(), largest=None, levels=8, neurons=neurons)
    module.prepare(images)
    with torch.no_grad():
        for _, weight in list(module.net.named_parameters())[:4:2]:
            weight[::3] -= 0.6
    for layer in module.spike_layers().values():  # beyond float32, which the grid would notice
        layer.double()
    set_intervals(module.net, images, 1.5)
    potentials = module.train()(images).detach()
    record = simulate_ttfs((b1_map if neurons == "b1" else exact_map)(module.net, images), images, levels=8)
    close = (record.logits - potentials).abs().amax(1) < 1e-6
    assert close.double().mean() > 0.95  # but for times on the border of two levels


def test_the_tested_network_has_the_rounded_weights():
    module = trained("fc", weight_bits=3, largest=None)
    module.on_test_start()
    weights = [w for name, w in module.net.named_parameters() if name.endswith("weight")]
    assert all(len(weight.unique()) <= 8 for weight in weights)
    images = data()[0]
    with torch.no_grad():
        torch.testing.assert_close(simulate_ttfs(b1_map(module.net, images), images).logits, module(images))


@pytest.mark.parametrize("input_range", [(0.0, 1.0), (-1.0, 2.0)])
def test_batch_norms_are_folded_and_the_function_kept(input_range):
    torch.manual_seed(0)
    p, q = input_range
    images = p + (q - p) * torch.rand(8, 1, 28, 28, dtype=torch.float64)
    net = LeNet5().double()
    net(images)  # moves the batch norms
    net.eval()
    expected = net(images).detach()
    spiking = spike_time_net(net, images, input_range, 1500.0)
    assert not any(isinstance(module, nn.BatchNorm1d) for module in spiking.modules())
    torch.testing.assert_close(spiking(images).detach(), expected, rtol=1e-6, atol=1e-6)
    snn = b1_map(spiking, images, input_range=input_range)
    torch.testing.assert_close(simulate_ttfs(snn, images).logits, expected, rtol=1e-6, atol=1e-6)


def test_biases_of_places_are_trained():
    """A batch norm behind a ReLU and in front of a padded convolution becomes biases that differ at the border."""
    torch.manual_seed(0)
    net = VGG([4, 4], [], (1, 6, 6), 4).double()
    images, labels = data()
    net(images)
    net.eval()
    expected = net(images).detach()
    spiking = spike_time_net(net, images, (0.0, 1.0), 1500.0)
    assert any(isinstance(module, BiasMapConv2d) for module in spiking)
    F.cross_entropy(spiking.train()(images), labels).backward()
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in spiking.parameters())
    for convert in (b1_map, exact_map):
        torch.testing.assert_close(
            simulate_ttfs(convert(spiking, images), images).logits, expected, rtol=1e-6, atol=1e-6
        )


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(144, 4)

    def forward(self, x):
        x = F.relu(self.first(x))
        return self.head(F.relu(self.second(x) + x).flatten(1))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"zeta": -1.0}, "lit.zeta=-1.0: above -1"),
        ({"time_noise": 1.5}, "lit.time_noise=1.5: as wide as the interval of 'input', 1; type lit.time_noise=0.01"),
        ({"time_noise": -1.0}, "lit.time_noise=-1.0: 0 or a deviation"),
        ({"levels": 1}, "lit.levels=1: 2 or more"),
        ({"quantile": 0.0}, "lit.quantile=0.0: in"),
        ({"largest": -3.0}, "lit.largest=-3.0: above 0"),
        ({"weight_bits": 1}, "lit.weight_bits=1: 2 to 24"),
        ({"weight_range": (0.1, 1.0)}, "lit.weight_range=.*: a number below 0 and one above"),
        ({"neurons": "alpha", "quantile": 0.9}, "may fire before t_min; type lit.neurons=b1"),
        ({"neurons": "lif"}, "lit.neurons=lif: unknown, choose lit.neurons=b1"),
        ({"net": Branches()}, "training in spike time takes no branches and no average pools, as at 'second_inputs'"),
        ({"net": nn.Sequential(nn.Flatten(), nn.Linear(36, 4))}, "has no ReLU in front of its output"),
        (
            {"net": nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(12, 4))},
            "takes no branches and no average pools, as at 'avgpool1'; .* type lit=relu",
        ),
    ],
)
def test_mistakes_are_told_in_one_line(settings, said):
    net = settings.pop("net", fc()).double()
    with pytest.raises(InputError, match=said) as caught:
        module_of(SpikeTimeClassifier, net, **settings).prepare(data()[0])
    assert "\n" not in str(caught.value)


def test_a_layer_of_relu6_keeps_its_cap_as_interval():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 30), nn.ReLU6(), nn.Linear(30, 4)).double()
    net[1].weight.data *= 30
    images = data()[0]
    expected = net(images).detach()
    snn = b1_map(net, images)
    assert float(snn.layers["linear1"].t_max - snn.layers["linear1"].t_min) == 6
    record = simulate_ttfs(snn, images)
    assert record.counts["linear1"].early > 0
    torch.testing.assert_close(record.logits, expected)
    spiking = spike_time_net(net, images, (0.0, 1.0), 1500.0)
    torch.testing.assert_close(spiking(images).detach(), expected)


@pytest.mark.parametrize("norm", [False, True])
def test_a_softmax_at_the_output_is_part_of_the_training(norm):
    layers = [nn.BatchNorm1d(30)] if norm else []
    torch.manual_seed(0)
    net = (
        nn.Sequential(nn.Flatten(), nn.Linear(36, 30), *layers, nn.ReLU(), nn.Linear(30, 4), nn.LogSoftmax(1))
        .double()
        .eval()
    )
    images = data()[0]
    made = spike_time_net(copy.deepcopy(net), images, (0.0, 1.0), 1000.0)
    torch.testing.assert_close(made.eval()(images), net(images), rtol=1e-10, atol=1e-10)
    assert any(isinstance(module, SpikeTimes) for module in made.modules())


def test_a_network_with_standardized_pixels_is_trained():
    torch.manual_seed(0)
    net = (
        nn.Sequential(Standardize([0.3], [0.5]), nn.Flatten(), nn.Linear(36, 30), nn.ReLU(), nn.Linear(30, 4))
        .double()
        .eval()
    )
    images = data()[0]
    made = spike_time_net(copy.deepcopy(net), images, (0.0, 1.0), 1000.0)
    torch.testing.assert_close(made.eval()(images), net(images), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("relu", [lambda x: x.clamp(min=0), lambda x: torch.clamp_min(x, 0)])
def test_a_relu_that_is_written_as_a_clamp_becomes_spikes(relu):
    class Clamped(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.out = nn.Linear(36, 20), nn.Linear(20, 20), nn.Linear(20, 4)

        def forward(self, x):
            return self.out(relu(self.second(F.relu(self.first(x.flatten(1))))))

    torch.manual_seed(0)
    net, images = Clamped().double().eval(), data()[0]
    made = spike_time_net(copy.deepcopy(net), images, (0.0, 1.0), 1000.0)
    assert sum(isinstance(module, SpikeTimes) for module in made.modules()) == 2
    torch.testing.assert_close(made.eval()(images), net(images), rtol=1e-10, atol=1e-10)


def test_a_quantile_leaves_the_caps_of_relu6():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(36, 30), nn.ReLU6(), nn.Linear(30, 20), nn.ReLU(), nn.Linear(20, 4)
    ).double()
    made = spike_time_net(net, data()[0], (0.0, 1.0), 1000.0, saturates=True)
    set_intervals(made, data()[0], 1.0, quantile=0.5)
    first, second = (module for module in made.modules() if isinstance(module, SpikeTimes))
    assert float(first.length) == 6.0 and float(second.length) < 6.0


def test_the_penalty_counts_spikes_whatever_their_scale_and_makes_fewer():
    leads = torch.tensor([[0.0, 0.0, 1.0, 2.0], [0.0, 3.0, 0.0, 0.0]], dtype=torch.float64)
    assert float(smooth_count(leads)) == pytest.approx(1.5, abs=0.01)  # three spikes, two images
    torch.testing.assert_close(smooth_count(leads), smooth_count(1e3 * leads))
    assert float(smooth_count(torch.zeros(2, 4))) == 0
    images, labels = data()
    counted = []
    for penalty in (0.0, 0.02):
        module = module_of(SpikeTimeClassifier, fc(), largest=None, gamma=1.5, spike_penalty=penalty)
        module.prepare(images)
        module.log_dict = module.log = lambda *args, **kwargs: None
        optimizer = module.make_optimizer(module.net.parameters())
        for _ in range(150):
            optimizer.zero_grad()
            module.train().training_step((images, labels), 0).backward()
            optimizer.step()
        record = simulate_ttfs(b1_map(module.net.eval(), images), images)
        counted.append((float((record.predicted == labels).double().mean()), ttfs_metrics(record)["ttfs/active"]))
    (plain, many), (penalized, few) = counted
    assert few < 0.6 * many and penalized > plain - 0.1
