"""NeuroBench, reading the same networks with hooks of its own, finds the operations and the sparsity that we count."""

import pytest
import torch
from torch import nn

from respike.bench.peers import drives
from respike.metrics.activity import activities
from respike.metrics.operations import counted_macs
from respike.neurons.encode import Rate
from respike.neurons.integrate_fire import IntegrateFire
from respike.simulate import simulate
from respike.simulate.connections import network_connections
from respike.simulate.rate.program import pools, synapse_paths

neurobench = pytest.importorskip("neurobench", reason="neurobench is in requirements-bench.txt only")

from neurobench.metrics.workload import ActivationSparsity, SynapticOperations  # noqa: E402
from neurobench.models import TorchModel  # noqa: E402

NEURON = IntegrateFire(threshold=0.25)


class Fire(nn.ReLU):
    """Neurons that keep their state between calls. NeuroBench takes the output of any ReLU for activations."""

    def __init__(self):
        super().__init__()
        self.state = None

    def forward(self, drive):
        self.state = NEURON.step(drive, NEURON.initial(drive) if self.state is None else self.state)
        return self.state.spikes


class StepByStep(nn.Module):
    """A chain of layers as other libraries write it, for input spikes (T, B, ...)."""

    def __init__(self, snn):
        super().__init__()
        self.layers = nn.ModuleList(nn.Sequential(drive, Fire()) for drive in drives(snn))

    def forward(self, spikes):
        for x in spikes:
            for layer in self.layers:
                x = layer(x)
        return x


def measured(model, images, batch):
    """Operations per image, and activation sparsity, as NeuroBench measures them on one batch."""
    model = TorchModel(model)
    model.register_hooks()
    with torch.no_grad():
        outputs = model(batch)
        sparsity = ActivationSparsity()(model, outputs, (images, None))
        return SynapticOperations()(model, outputs, (images, None)), sparsity


@pytest.mark.parametrize("wiring", ["fc", "cnn"])
def test_accumulates_and_sparsity_of_a_spiking_network(draw_workload, wiring):
    workload = draw_workload(wiring)
    snn, images = workload.snn, workload.images
    record = simulate(snn, images, weight_bits=None, encode=Rate(500.0), neuron=NEURON, duration=0.02)
    steps = torch.arange(record.steps)
    spikes = Rate(500.0)(images, torch.arange(len(images)), steps, 0.001, 0).float()
    operations, sparsity = measured(StepByStep(snn), images, spikes)
    weighted = {
        layer.name
        for layer in network_connections(synapse_paths(snn), images.shape[1:], pools(snn)).layers
        if sum(layer.macs)
    }  # NeuroBench counts no pools
    accumulates = sum(int(values.sum()) for name, values in record.synops.items() if name in weighted)
    assert operations["Effective_MACs"] == 0
    assert operations["Effective_ACs"] == accumulates / record.images > 0
    assert operations["Dense"] == record.ann_macs * record.steps
    active = activities(record)
    neurons = {name: count for name, count in record.neurons.items() if name != "input"}
    mean = sum(active[name] * count for name, count in neurons.items()) / sum(neurons.values())
    assert sparsity == pytest.approx(1 - mean, abs=1e-12) and 0 < mean < 1


def test_multiply_accumulates_of_a_relu_network(draw_net):
    net, images = draw_net("cnn", seed=3, bias=True)
    net, images = net.float().eval(), images.float() * (torch.rand(images.shape) > 0.5)
    with counted_macs(net) as counts, torch.no_grad():
        net(images)
    operations, _ = measured(net, images, images)
    assert operations["Effective_MACs"] == sum(counts.values()) / len(images)
    assert 0 < operations["Effective_MACs"] < operations["Dense"]
