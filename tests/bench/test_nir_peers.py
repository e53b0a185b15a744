"""NIR files between libraries: what we write spikes there as here, and what they write spikes here as there.

On injected spikes every output spike is compared, with weights on a grid that makes potentials hit the threshold exactly:
Norse fires above it, SpikingJelly at it.
"""

from pathlib import Path

import nir
import numpy as np
import pytest
import torch
from torch import nn

from respike.convert import RateSNN, data_norm, no_norm
from respike.data.datasets import mnist
from respike.networks.resnet19 import SpikingResNet19
from respike.neurons.encode import Rate
from respike.neurons.integrate_fire import IntegrateFire
from respike.nir.read import nir_network, nir_neuron
from respike.nir.write import export_nir
from respike.simulate import simulate, simulate_stepwise

T = 20
DIEHL_CNN = Path(__file__).parents[2] / "outputs" / "reference" / "runs" / "diehl_cnn" / "checkpoints" / "snn.pt"


def norse():
    return pytest.importorskip("norse.torch", reason="norse is in requirements-bench.txt only")


def spikingjelly():
    return pytest.importorskip(
        "spikingjelly.activation_based.nir_exchange", reason="spikingjelly is in requirements-bench.txt only"
    )


def norse_cells(path):
    """Norse's neurons in a graph that nirtorch runs in the order of its edges, as `norse.from_nir` does not."""
    cell, nirtorch = norse(), pytest.importorskip("nirtorch", reason="nirtorch is in requirements-bench.txt only")

    def affine(node):
        linear = nn.Linear(*reversed(node.weight.shape))
        linear.weight.data, linear.bias.data = torch.from_numpy(node.weight), torch.from_numpy(node.bias)
        return linear

    def fires(node):
        return cell.IAFCell(cell.IAFParameters(v_th=torch.from_numpy(node.v_threshold)))

    def leaks(node):
        values = (torch.from_numpy(value) for value in (1 / node.tau, node.v_leak, node.v_threshold, node.v_reset))
        return cell.LIFBoxCell(cell.LIFBoxParameters(*values), dt=1.0)

    return nirtorch.nir_to_torch(nir.read(path), {nir.IF: fires, nir.LIF: leaks, nir.Affine: affine})


READERS = {  # what reads the file, and whether its neurons fire above the threshold
    "norse": (norse_cells, True),
    "spikingjelly": (lambda path: spikingjelly().import_from_nir(path, dt=1.0), False),
}


def run(net, inputs):
    """The outputs (T, B, ...) for inputs (T, B, ...), step by step."""
    state, outputs = None, []
    with torch.no_grad():
        for x in inputs:
            output, state = net(x, state)
            outputs.append(output)
    return torch.stack(outputs)


def spikes_of(images, steps=T):
    """The input spikes (T, B, ...) of a simulation with encode=Rate(1000)."""
    return Rate(1000.0)(images, torch.arange(len(images)), torch.arange(steps), 0.001, 0).float()


def trains(snn, images, **settings):
    """The output spikes (T, B, N) of the reference."""
    record = simulate_stepwise(snn, images, keep=True, encode=Rate(1000.0), duration=T / 1000, **settings)
    return torch.stack([record.traces[b].spikes[snn.output] for b in range(len(images))], 1).float()


def read_back(path, images, **given):
    net, neuron = nir_network(path, given.get("dt")), nir_neuron(path, **given)
    return no_norm(net, images, spiking_pools=False, readout="as_is"), neuron


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("bits", [6, 16])
def test_every_output_spike_of_a_written_network_is_the_readers(draw_net, wiring, reader, bits, tmp_path):
    """Fully connected, convolutional, with pools of 4 times the threshold, and three with branches that meet."""
    read, above = READERS[reader]
    net, images = draw_net(wiring)
    images = images.float()
    snn = data_norm(net.float(), images)
    settings = {"neuron": IntegrateFire(fire_above=above), "weight_bits": bits}
    export_nir(snn, tmp_path / "net.nir", images.shape[1:], **settings)
    outputs = run(read(tmp_path / "net.nir"), spikes_of(images))
    expected = trains(snn, images, **settings)
    assert int(expected.sum()) > 50 and torch.equal(outputs.flatten(2), expected.flatten(2))


@pytest.mark.parametrize("reader", ["norse", "spikingjelly", "from_nir"])
def test_biases_that_differ_by_place_survive(reader, tmp_path):
    """A shift of the pixels in front of zero padding, and one of a batch norm between convolutions."""
    read, above = READERS.get(reader) or ((lambda path: norse().from_nir(nir.read(path), dt=1)), True)
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.BatchNorm2d(2), nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 5, 2, 2), nn.ReLU(),
        nn.Flatten(), nn.Linear(64, 5),
    )  # fmt: skip
    images = torch.rand(20, 2, 8, 7)
    net(images)
    snn = data_norm(net.eval(), images)
    settings = {"neuron": IntegrateFire(fire_above=above)}
    export_nir(snn, tmp_path / "net.nir", images.shape[1:], **settings)
    outputs = run(read(tmp_path / "net.nir"), spikes_of(images))
    expected = trains(snn, images, **settings)
    assert int(expected.sum()) > 50 and torch.equal(outputs.flatten(2), expected.flatten(2))


def test_firing_at_the_threshold_is_not_firing_above_it(draw_net):
    net, images = draw_net("cnn")
    snn = data_norm(net.float(), images.float())
    at, above = (
        trains(snn, images.float(), neuron=IntegrateFire(fire_above=strict), weight_bits=6) for strict in (False, True)
    )
    assert not torch.equal(at, above)


@pytest.mark.parametrize("wiring", ["fc", "cnn", "pools", "identity"])
def test_norse_reads_chains_and_identity_shortcuts_by_from_nir(draw_net, wiring, tmp_path):
    """Without scales an identity shortcut is an edge from neurons to neurons."""
    net, images = draw_net(wiring)
    images = images.float()
    snn = no_norm(net.float(), images)
    settings = {"neuron": IntegrateFire(fire_above=True), "weight_bits": 6}
    export_nir(snn, tmp_path / "net.nir", images.shape[1:], **settings)
    outputs = run(norse().from_nir(nir.read(tmp_path / "net.nir"), dt=1), spikes_of(images))
    expected = trains(snn, images, **settings)
    assert int(expected.sum()) > 50 and torch.equal(outputs.flatten(2), expected.flatten(2))


def test_norse_runs_branches_that_both_have_nodes_in_a_wrong_order(draw_net, tmp_path):
    """A known fault of `norse.from_nir` in Norse 1.1 (nirtorch.load), which docs/nir.md names."""
    net, images = draw_net("projection")
    snn = no_norm(net.float(), images.float())
    export_nir(snn, tmp_path / "net.nir", images.shape[1:])
    outputs = run(norse().from_nir(nir.read(tmp_path / "net.nir"), dt=1), spikes_of(images.float()))
    assert outputs.shape[2:] != (5,)  # of a branch, not of the output


@pytest.mark.parametrize("reader", ["from_nir", "cells"])
def test_a_threshold_for_each_channel_is_read_as_norse_reads_it(reader, tmp_path):
    random = torch.Generator().manual_seed(0)
    weights = [
        (torch.randint(-8, 16, shape, generator=random) / 16).numpy() for shape in ((4, 1, 3, 3), (4,), (5, 64), (5,))
    ]
    thresholds = np.broadcast_to(np.array([0.5, 1, 2, 4], np.float32)[:, None, None], (4, 4, 4)).copy()
    graph = nir.NIRGraph.from_list(
        nir.Input(np.array([1, 6, 6])),
        nir.Conv2d((6, 6), weights[0], 1, 0, 1, 1, weights[1]),
        nir.IF(np.ones_like(thresholds), thresholds),
        nir.Flatten({"input": np.array([4, 4, 4])}, -3),
        nir.Affine(weights[2], weights[3]),
        nir.IF(np.ones(5, np.float32), np.array([0.5, 1, 2, 1, 0.25], np.float32)),
    )
    path = tmp_path / "net.nir"
    nir.write(path, graph)
    images = torch.rand(12, 1, 6, 6, generator=random)
    net = norse_cells(path) if reader == "cells" else norse().from_nir(nir.read(path), dt=1)
    snn, neuron = read_back(path, images)
    expected = trains(snn, images, neuron=neuron)
    assert int(expected.sum()) > 50 and torch.equal(run(net, spikes_of(images)), expected)


@pytest.mark.parametrize("leaky", [False, True])
def test_what_spikingjelly_writes_spikes_here_as_there(leaky, tmp_path):
    export = spikingjelly().export_to_nir
    from spikingjelly.activation_based import layer, neuron

    torch.manual_seed(0)
    cell = (lambda: neuron.LIFNode(tau=2.0, v_threshold=0.25)) if leaky else neuron.IFNode
    parts = layer.Conv2d(1, 4, 3), cell(), layer.AvgPool2d(2), layer.Flatten(), layer.Linear(16, 5), cell()
    parts[0].weight.data.add_(0.2)
    parts[4].weight.data.add_(0.2)
    net, images = nn.Sequential(*parts), torch.rand(12, 1, 6, 6)
    inputs = spikes_of(images)
    export(net, inputs[0], tmp_path / "net.nir")
    with torch.no_grad():
        outputs = torch.stack([net(x) for x in inputs])
    snn, own = read_back(tmp_path / "net.nir", images, dt=1e-4, fires="above" if leaky else "at")
    expected = trains(snn, images, neuron=own, weight_bits=None)
    assert int(expected.sum()) > 50 and torch.equal(outputs, expected)


def test_what_norse_writes_spikes_here_as_there(tmp_path):
    """Its to_nir multiplies time constants by dt = 0.001: the time step to read them with is dt * dt."""
    box = norse()
    torch.manual_seed(0)
    cells = [
        box.LIFBoxCell(
            box.LIFBoxParameters(500 * torch.ones(n), torch.zeros(n), torch.ones(n), torch.zeros(n)), dt=0.001
        )
        for n in (8, 5)
    ]
    parts = nn.Linear(36, 8), cells[0], nn.Linear(8, 5), cells[1]
    for linear in parts[::2]:
        linear.weight.data.add_(0.4)
    net, images = box.SequentialState(*parts), torch.rand(12, 36)
    nir.write(tmp_path / "net.nir", box.to_nir(net, images))
    snn, own = read_back(tmp_path / "net.nir", images.view(12, 1, 6, 6), dt=1e-6)
    expected = trains(snn, images.view(12, 1, 6, 6), neuron=own, weight_bits=None)
    assert int(expected.sum()) > 50 and torch.equal(run(net, spikes_of(images)), expected)


@pytest.mark.parametrize("reader", READERS)
def test_a_directly_trained_network_spikes_there_as_here(reader, tmp_path):
    """Leaky neurons of SpikingResNet19; no potential lies on the threshold but by chance."""
    torch.manual_seed(0)
    net = SpikingResNet19(steps=4, width_mult=0.03, blocks=[1, 1], hidden=8, classes=5, mean=[0.5], std=[0.5]).eval()
    for fc in (net.fc1, net.fc2):
        fc.weight.data.mul_(2), fc.bias.data.uniform_(0, 0.4)
    images = torch.rand(8, 1, 12, 12)
    export_nir(net, tmp_path / "net.nir", images.shape[1:])
    outputs = run(READERS[reader][0](tmp_path / "net.nir"), images.expand(4, *images.shape))
    with torch.no_grad():
        expected = net.spikes(images)
    assert int(expected.sum()) > 20 and torch.equal(outputs, expected)


@pytest.mark.parametrize("reader", ["norse", "spikingjelly"])
def test_a_thousand_images_are_classified_by_others_as_here(published, reader, tmp_path):
    """The committed CNN of Diehl et al. 2015 on MNIST: equal counts of every output, so equal accuracy."""
    above, path = READERS[reader][1], tmp_path / "net.nir"
    snn, steps, neuron = RateSNN.load(DIEHL_CNN), 40, IntegrateFire(fire_above=above)
    export_nir(snn, path, (1, 28, 28), neuron=neuron)
    net = norse().from_nir(nir.read(path), dt=1) if reader == "norse" else READERS[reader][0](path)
    data = mnist(published("MNIST").parent)
    images, labels = data.test_images[:1000].float() / 255, data.test_labels[:1000]
    ours = simulate(snn, images, encode=Rate(1000.0), neuron=neuron, duration=steps / 1000)
    outputs = run(net, spikes_of(images, steps)).sum(0)
    assert torch.equal(outputs.int(), ours.counts.int())
    assert (outputs.argmax(1) == labels).float().mean() > (0.9 if above else 0.98)
