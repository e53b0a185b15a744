"""Start potentials of single neurons: their closed form, and the same spikes from every backend."""

import copy

import pytest
import torch
from interpreted import DEVICE, kernels_of, needs
from torch import nn

from respike.convert import data_norm, load_snn, no_norm
from respike.neurons.encode import Current, Rate
from respike.neurons.integrate_fire import DIEHL, SOFT, IntegrateFire
from respike.neurons.lif import LIF
from respike.simulate import simulate, simulate_stepwise
from respike.simulate.connections import layer_shapes
from respike.simulate.rate import layerwise
from respike.simulate.rate.kernels import events, triton_backend
from respike.simulate.rate.program import compile_program, pools, synapse_paths
from respike.simulate.rate.settings import Settings

needs_compiler = pytest.mark.skipif(events.library(events.SOURCE) is None, reason="needs a C compiler")


def start_at_random(snn, shape, seed=0):
    """The network with start potentials from -1.5 to 1.5 in every layer of neurons."""
    random = torch.Generator().manual_seed(seed)
    for name, size in layer_shapes(synapse_paths(snn), torch.Size(shape), pools(snn)).items():
        if name != "input" and snn.layer(name).kind in ("relu", "pool", "output"):
            snn.layer(name).start = 3 * torch.rand(size, generator=random) - 1.5
    return snn


def test_spikes_of_a_constant_current_by_the_closed_form():
    """Reset by subtraction: floor(T a + v0) spikes in T steps of current a, between 0 and T."""
    size = 256
    snn = no_norm(nn.Sequential(nn.Flatten(), nn.Linear(size, size, bias=False), nn.ReLU()))
    snn.layer("linear1").synapses[0].weighted.weight.data = torch.eye(size)
    currents = torch.arange(size).reshape(1, 1, 1, -1) / size
    snn.layer("linear1").start = ((torch.arange(size) * 37) % 401 - 200) / 128
    record = simulate(snn, currents, encode=Current(), neuron=SOFT, duration=0.010)
    expected = (10 * currents.flatten().double() + 0.5 + snn.layer("linear1").start).floor().clamp(0, 10)
    assert torch.equal(record.counts[0].double(), expected) and len(expected.unique()) > 5


NEURONS = [SOFT, DIEHL, IntegrateFire(0.7, "subtract", 0.25, t_ref=0.003), LIF(v_th=0.5)]


@pytest.mark.parametrize("neuron", NEURONS, ids=["soft", "diehl", "refractory", "lif"])
@pytest.mark.parametrize("backend", ["torch", pytest.param("events", marks=needs_compiler)])
def test_every_backend_starts_like_the_reference(draw_snn, assert_same_record, monkeypatch, wiring, backend, neuron):
    """Also where all T steps are split into chunks: only the first one starts there."""
    snn, images = draw_snn(wiring)
    chosen = {"neuron": neuron, "duration": 0.009, "weight_bits": None if isinstance(neuron, LIF) else 14}
    plain, snn = snn, start_at_random(copy.deepcopy(snn), images.shape[1:])
    for encode in (Current(), Rate(400.0)):
        expected = simulate_stepwise(snn, images, encode=encode, **chosen)
        assert_same_record(simulate(snn, images, encode=encode, backend=backend, **chosen), expected)
        monkeypatch.setattr(layerwise, "BLOCK", 1)
        monkeypatch.setattr(events, "BUDGET", 1)
        monkeypatch.setattr(events, "LEAST", 2)
        assert_same_record(simulate(snn, images, encode=encode, backend=backend, **chosen), expected)
        monkeypatch.undo()
        at_rest = simulate_stepwise(plain, images, encode=encode, **chosen).spikes
        assert all(not torch.equal(expected.spikes[name], at_rest[name]) for name in snn.layers)


@needs(kernels_of(triton_backend))
@pytest.mark.parametrize("neuron", NEURONS[:3], ids=["soft", "diehl", "refractory"])
def test_triton_starts_like_the_reference(draw_snn, assert_same_record, neuron):
    """Products, pools and scans."""
    kinds = set()
    for wiring in ("cnn", "projection"):
        snn, images = draw_snn(wiring)
        snn = start_at_random(snn, images.shape[1:])
        chosen = {"neuron": neuron, "duration": 0.005, "weight_bits": 12}
        program = compile_program(snn, images.shape[1:], Settings(**chosen))
        kinds |= {triton_backend.plan(program, layer, Settings(**chosen)).kind for layer in program.layers}
        expected = simulate_stepwise(snn, images[:2], **chosen)
        ours = simulate(snn.to(DEVICE), images[:2].to(DEVICE), backend="triton", **chosen)
        assert_same_record(ours, expected)
    assert kinds == {"product", "pool", "scan"}


def test_start_potentials_are_saved_and_rescaled(tmp_path, draw_net, assert_same_record):
    net, images = draw_net("cnn", 0, True)
    snn, images = start_at_random(data_norm(net.float(), images.float()), images.shape[1:]), images.float()
    settings = {"neuron": SOFT, "duration": 0.01, "weight_bits": None}
    before = simulate(snn, images, **settings)
    snn.save(tmp_path / "snn.pt")
    loaded = load_snn(tmp_path / "snn.pt")
    assert all(torch.equal(loaded.layer(name).start, snn.layer(name).start) for name in snn.layers)
    assert_same_record(simulate(loaded, images, **settings), before)
    name = next(iter(snn.layers))
    for scale in (4.0, torch.arange(1.0, 1 + len(loaded.layer(name).start))):
        start = loaded.layer(name).start
        loaded.rescale(dict.fromkeys(snn.layers, 1.0) | {name: scale})
        expected = start / torch.as_tensor(scale).view(-1, 1, 1)
        torch.testing.assert_close(loaded.layer(name).start, expected)
