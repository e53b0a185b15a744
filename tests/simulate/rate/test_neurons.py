"""Any neuron can be simulated: LIF, and one that is written here."""

import copy
from dataclasses import dataclass

import pytest
import torch

from respike.networks.resnet19 import SpikingResNet19
from respike.neurons.encode import Current, Rate
from respike.neurons.integrate_fire import IntegrateFire
from respike.neurons.lif import LIF
from respike.neurons.neuron import Neuron, State
from respike.simulate import simulate, simulate_stepwise
from respike.simulate.direct.evaluate import potential_histograms, simulate_direct
from respike.simulate.rate import program


@dataclass(frozen=True)
class Clipped(Neuron):
    """A neuron that leaks a constant amount and never falls below 0."""

    threshold: float = 0.8
    leak: float = 0.05

    def step(self, drive, state):
        """v = max(0, v - leak + x); a spike takes the threshold away at the next step."""
        v = torch.relu(state.potential - self.threshold * state.spikes - self.leak + drive)
        return State(v, (v >= self.threshold).to(v.dtype))


def lif_loop(neuron, drives):
    """u = tau u (1 - o) + x, o = [u > v_th], in plain Python; drives and spikes (T, B, ...N)."""
    u = o = torch.zeros_like(drives[0])
    spikes = []
    for x in drives:
        u = neuron.tau * u * (1 - o) + x
        o = (u > neuron.v_th).to(u.dtype)
        spikes.append(o)
    return torch.stack(spikes)


def clipped_loop(neuron, drives):
    v = torch.zeros_like(drives[0])
    spikes = []
    for x in drives:
        v = (v - neuron.leak + x).clamp(min=0)
        fired = v >= neuron.threshold
        spikes.append(fired.to(v.dtype))
        v = torch.where(fired, v - neuron.threshold, v)
    return torch.stack(spikes)


def looped(snn, images, neuron, loop, encode, steps):
    """Spikes of every layer (T, B, ...N) of the whole network, layer by layer."""
    spikes = {"input": encode(images, torch.arange(len(images)), torch.arange(steps), 0.001, 0).double()}
    spikes["input"] = spikes["input"].expand(steps, *images.shape)
    with torch.no_grad():
        for name, layer in snn.layers.items():
            drives = [layer.drive({source: spikes[source][t] for source in layer.sources}) for t in range(steps)]
            spikes[name] = loop(neuron, torch.stack(drives))
    return spikes


@pytest.mark.parametrize("encode", [Rate(800.0), Current(1.0)])
@pytest.mark.parametrize(
    ("neuron", "loop"), [(LIF(v_th=0.6, tau=0.9), lif_loop), (Clipped(), clipped_loop)], ids=["lif", "clipped"]
)
def test_a_converted_network_runs_with_any_neuron(draw_snn, assert_same_record, wiring, neuron, loop, encode):
    snn, images = draw_snn(wiring)
    snn, images = snn.double(), images.double()
    settings = {"neuron": neuron, "encode": encode, "duration": 0.012, "weight_bits": None}
    record, expected = simulate(snn, images, **settings), looped(snn, images, neuron, loop, encode, 12)
    for name, spikes in record.spikes.items():
        assert spikes.tolist() == expected[name].flatten(1).sum(1).long().tolist(), name
    assert record.counts.tolist() == expected[snn.output].sum(0).flatten(1).int().tolist()
    assert any(int(spikes.sum()) > 20 for name, spikes in record.spikes.items() if name != "input")
    assert_same_record(simulate_stepwise(snn, images, **settings), record)


def test_a_neuron_without_a_fixed_point_form_runs_in_floating_point_and_one_line_says_so(
    draw_snn, assert_same_record, caplog
):
    snn, images = draw_snn("cnn")
    program._log_float.cache_clear()
    with caplog.at_level("WARNING"):
        records = [simulate(snn, images, neuron=LIF(), weight_bits=bits, duration=0.01) for bits in (16, 8)]
    assert [line for line in caplog.messages if "floating point" in line] == [
        "LIF has no fixed-point form: the simulation runs in floating point, as with simulate.weight_bits=null"
    ]
    exact = simulate(snn, images, neuron=LIF(), weight_bits=None, duration=0.01)
    assert int(exact.counts.sum()) > 0
    for record in records:
        assert_same_record(record, exact)


def test_traces_hold_the_potentials_of_any_neuron(draw_snn):
    snn, images = draw_snn("fc")
    neuron = LIF(v_th=0.5, tau=0.8)
    record = simulate(snn.double(), images, neuron=neuron, weight_bits=None, duration=0.01, trace=[0, 3])
    for trace in record.traces.values():
        for name, potentials in trace.potentials.items():
            assert torch.equal(trace.spikes[name].bool(), potentials > 1)


@pytest.mark.parametrize("neuron", [Clipped(), IntegrateFire(0.5, "subtract"), LIF(v_th=0.5)], ids=str)
def test_a_directly_trained_network_runs_with_any_neuron(neuron):
    torch.manual_seed(0)
    net = SpikingResNet19(width_mult=1 / 16, blocks=[1, 1], input_shape=(1, 8, 8), steps=3, neuron=neuron)
    x = torch.rand(4, 1, 8, 8)
    with torch.no_grad():
        for _ in range(30):
            net(x)
        net.eval()
        whole, states = net.spikes(x), {}
        assert torch.equal(torch.cat([net.spikes(x, 1, states) for _ in range(3)]), whole)
    assert {module.gain for module in net.modules() if hasattr(module, "gain")} >= {neuron.threshold}
    record = simulate_direct(net.folded(), x)
    assert all(int(record.spikes[name].sum()) > 0 for name in ("stem", "block1.1", "block1.2"))
    counts = potential_histograms(net.folded(), x, -1.0, 2.0)
    assert {name: int(found.sum()) for name, found in counts.items()} == {
        name: 4 * 3 * record.neurons[name] for name in record.spikes
    }


def test_a_trained_network_keeps_its_neuron_when_it_is_copied():
    net = SpikingResNet19(width_mult=1 / 16, blocks=[1], input_shape=(1, 4, 4), neuron=Clipped(0.7))
    assert copy.deepcopy(net).fire.neurons.neuron == Clipped(0.7)
