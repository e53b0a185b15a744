"""Counts of operations against torch's own counter, a loop over the connections, and the exact mapping."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from respike.convert import RateSNN, exact_map, percentile_norm
from respike.metrics.operations import Operations, counted_macs, step_operations, time_operations
from respike.networks.diehl_cnn import DiehlCNN
from respike.networks.lenet import LeNet5
from respike.networks.mlp import MLP
from respike.networks.resnet19 import SpikingResNet19
from respike.networks.resnet_cifar import ResNetCifar
from respike.neurons.encode import Current, Rate
from respike.neurons.integrate_fire import SOFT
from respike.simulate import simulate
from respike.simulate.connections import network_connections
from respike.simulate.direct.evaluate import simulate_direct
from respike.simulate.rate.program import pools, synapse_paths
from respike.simulate.ttfs import simulate_ttfs


def torch_macs(net, images):
    """Multiply-accumulates per image by torch, which counts two operations each, and those on padded zeros as well."""
    padded = 0

    def count(module, inputs):
        nonlocal padded
        ones = torch.ones_like(inputs[0][:1, :1])
        taps = F.unfold(ones, module.kernel_size, module.dilation, module.padding, module.stride)
        padded += int((taps == 0).sum()) * module.in_channels // module.groups * module.out_channels

    hooks = [m.register_forward_pre_hook(count) for m in net.modules() if isinstance(m, nn.Conv2d)]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(images)
    for hook in hooks:
        hook.remove()
    return counter.get_total_flops() // 2 // len(images) - padded


def rate_operations(net, images, **settings):
    snn = percentile_norm(net, images, readout="current", spiking_pools=False)
    record = simulate(snn, images, neuron=SOFT, **settings)
    connections = network_connections(synapse_paths(snn), images.shape[1:], pools(snn))
    return record, step_operations(
        record, connections, biased=[n for n, la in snn.layers.items() if la.bias is not None]
    )


NETWORKS = {
    "mlp": (lambda: MLP([784, 30, 10]), (1, 28, 28)),
    "diehl_cnn": (DiehlCNN, (1, 28, 28)),
    "lenet": (LeNet5, (1, 28, 28)),
    "resnet20": (lambda: ResNetCifar(20), (3, 32, 32)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_dense_macs_are_those_that_torch_counts_without_the_padding(name):
    torch.manual_seed(0)
    make, shape = NETWORKS[name]
    net, images = make().eval(), torch.rand(2, *shape)
    _, operations = rate_operations(net, images, encode=Current(), duration=0.002)
    assert operations.macs == torch_macs(net, images) > 0
    assert sum(layer.weights for layer in operations.layers) == sum(
        module.weight.numel() for module in net.modules() if isinstance(module, nn.Linear | nn.Conv2d)
    )


class ReluInside(nn.Module):
    """Blocks with their ReLU inside the branch: a convolution reads the sum of all ReLUs before it. And a concatenation."""

    def __init__(self):
        super().__init__()
        self.stem, self.first, self.second, self.third = (nn.Conv2d(a, 4, 3, padding=1) for a in (1, 4, 4, 4))
        self.grouped, self.head = nn.Conv2d(8, 4, 3, groups=2), nn.Linear(4, 5)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        y = x + torch.relu(self.first(x))
        y = y + torch.relu(self.second(y))
        z = torch.relu(self.grouped(torch.cat([y, torch.relu(self.third(x))], 1)))
        return self.head(z.mean((2, 3)))


def test_weights_that_read_a_sum_are_counted_once(tmp_path):
    torch.manual_seed(0)
    net, images = ReluInside().eval(), torch.rand(2, 1, 8, 8)
    record, operations = rate_operations(net, images, encode=Current(), duration=0.002)
    assert operations.macs == record.ann_macs == torch_macs(net, images)
    snn = percentile_norm(net, images, readout="current", spiking_pools=False)
    snn.save(tmp_path / "snn.pt")
    for one in (snn, RateSNN.load(tmp_path / "snn.pt"), copy.deepcopy(snn)):
        assert simulate(one, images, encode=Current(), duration=0.002).ann_macs == operations.macs


def test_dense_macs_of_a_directly_trained_network_are_those_of_one_step():
    torch.manual_seed(0)
    net = SpikingResNet19(steps=1, stem=16, width_mult=0.0625, blocks=(1, 1, 1), hidden=8).eval().folded()
    images = torch.rand(2, 1, 28, 28)
    record = simulate_direct(net, images)
    operations = step_operations(record, network_connections(net.synapses(), images.shape[1:]), biased=(), leaky=True)
    assert operations.macs == record.ann_macs == torch_macs(net, images)
    assert all(layer.drives >= 1 for layer in operations.layers[1:])


def test_accumulates_of_a_layer_are_the_spikes_of_its_sources_times_their_synapses():
    """One residual block: a convolution and an identity, whose additions read no weight."""
    torch.manual_seed(0)

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.end = nn.Conv2d(2, 3, 3), nn.Conv2d(3, 3, 1, bias=False), nn.Linear(48, 4)

        def forward(self, x):
            x = torch.relu(self.first(x))
            return self.end(torch.relu(self.second(x) + x).flatten(1))

    record, operations = rate_operations(Residual(), torch.rand(5, 2, 6, 6), encode=Rate(700.0), duration=0.02)
    first, second, end = operations.layers[1:]
    assert second.accumulates == pytest.approx(4 * first.spikes) and second.unweighted == pytest.approx(first.spikes)
    assert end.accumulates == pytest.approx(4 * second.spikes) and end.unweighted == 0
    assert [layer.drives for layer in (first, second, end)] == [1, 0, 1]  # biases
    assert [layer.fires for layer in (first, second, end)] == [True, True, False]
    assert operations.layers[0].spikes == int(record.spikes["input"].sum()) / 5 > 0


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_spike_reads_no_weight_of_a_pool_that_reaches_all_neurons_alike(size):
    """Maps of 4x4: windows of one or two pixels share no pixel; those of three overlap, and a pixel is in one to four."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 2, 2), nn.ReLU(), nn.AvgPool2d(size, 1 if size == 3 else size), nn.Flatten(), nn.LazyLinear(3)
    )
    images = torch.rand(5, 1, 5, 5)
    net(images)
    snn = percentile_norm(net, images, readout="current", spiking_pools=True)
    record = simulate(snn, images, neuron=SOFT, encode=Rate(700.0), duration=0.02)
    first, pool, _ = step_operations(
        record, network_connections(synapse_paths(snn), (1, 5, 5), pools(snn)), biased=()
    ).layers[1:]
    assert first.spikes > 0
    if size < 3:
        assert pool.unweighted == pool.accumulates == pytest.approx(first.spikes)
    else:
        assert pool.unweighted == 0 and first.spikes < pool.accumulates < 4 * first.spikes


def test_an_analog_image_and_carried_currents_need_products():
    torch.manual_seed(0)
    first, inner, outer = nn.Conv2d(1, 6, 1), nn.Conv2d(6, 4, 1, bias=False), nn.Conv2d(4, 5, 1, bias=False)
    net = nn.Sequential(first, nn.ReLU(), inner, outer, nn.ReLU(), nn.Flatten(), nn.Linear(45, 3, bias=False))
    record, operations = rate_operations(net, torch.rand(4, 1, 3, 3), encode=Current(), duration=0.02)
    by_name = {layer.name: layer for layer in operations.layers}
    assert not by_name["input"].fires and by_name["input"].spikes == 0
    assert by_name["conv1"].input_macs == 54 and by_name["conv3"].current_macs == 180
    assert record.analog_macs == sum(layer.input_macs + layer.current_macs for layer in operations.layers)
    assert not by_name["conv2"].fires and by_name["conv2"].drives == 1


def test_effective_macs_are_the_products_with_values_other_than_0():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(27, 4))
    images = torch.rand(6, 2, 5, 5) * (torch.rand(6, 2, 5, 5) > 0.6)
    with counted_macs(net) as counts, torch.no_grad():
        for part in images.split(4):
            net(part)
    with torch.no_grad():
        by_hand = F.conv2d((images != 0).double(), torch.ones(3, 2, 3, 3).double(), stride=2, padding=1).sum()
        active = int((net[:2](images) != 0).sum())
    assert counts == {"0": int(by_hand), "3": 4 * active}
    net(images)
    assert counts["3"] == 4 * active  # the hooks are gone


def test_exactly_mapped_spikes_reach_as_many_synapses_as_activations_other_than_0():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3)
    )
    images = torch.rand(8, 1, 6, 6) * (torch.rand(8, 1, 6, 6) > 0.5)
    snn = exact_map(net, images)
    record = simulate_ttfs(snn, images)
    with counted_macs(net.double()) as counts, torch.no_grad():
        net(images.double())
    assert list(record.synops.values()) == list(counts.values())
    weights = {name: layer.synapses.weight.numel() for name, layer in snn.layers.items()}
    macs = dict(zip(snn.layers, (16 * 27, 60, 15), strict=True))
    operations = time_operations(record, weights, macs)
    assert operations.accumulates == sum(counts.values()) / 8 and operations.steps is None
    assert operations.macs == record.ann_macs == torch_macs(net.float(), images)


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.AvgPool2d(2)])
@pytest.mark.parametrize("norm_first", [True, False])
def test_a_batch_norm_behind_a_relu_leaves_its_zeros(pool, norm_first):
    """As in the folded network: an exactly mapped chain without mean pools has as many spikes at its synapses."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3).eval()
    with torch.no_grad():
        for values in (norm.weight, norm.bias, norm.running_mean):
            values.normal_()
    between = [norm, pool] if norm_first else [pool, norm]
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), *between, nn.Flatten(), nn.Linear(12, 4)).double()
    images = torch.rand(8, 1, 6, 6).double() - 0.2
    with counted_macs(net, (1, 6, 6)) as counts, torch.no_grad():
        net(images)
        rectified = net[:2](images)
        if isinstance(pool, nn.MaxPool2d) and norm_first:  # a negative factor makes it a min-pool
            rectified = rectified * norm.weight.view(-1, 1, 1)
        active = int((pool(rectified) != 0).sum())
    assert counts["5"] == 4 * active < 4 * 12 * 8
    with counted_macs(net) as counts, torch.no_grad():
        net(images)
    assert counts["5"] == 4 * 12 * 8
    if isinstance(pool, nn.MaxPool2d):
        record = simulate_ttfs(exact_map(net, images, input_range=(-0.2, 0.8)), images)
        assert list(record.synops.values())[-1] == 4 * active


def test_the_rows_of_a_file_give_the_operations_back(tmp_path):
    from respike.system.files import read_csv, write_csv

    _, operations = rate_operations(MLP([16, 6, 3]), torch.rand(3, 1, 4, 4), encode=Rate(500.0), duration=0.01)
    write_csv(tmp_path / "operations.csv", operations.rows())
    assert Operations.from_rows(read_csv(tmp_path / "operations.csv").to_dict("records")) == operations
