"""The fused tdBN + shortcut + LIF gives the spikes and gradients of the plain modules, or steps aside."""

from copy import deepcopy
from dataclasses import dataclass

import pytest
import torch
from drawn import NEURONS, SHORTCUTS, assert_same_gradients, draw, make, results
from torch import nn

from respike.layers import fused
from respike.layers.kernels import compiled
from respike.layers.norm_neuron import NormNeuron
from respike.layers.tdbn import TdBN
from respike.networks.resnet19 import SpikingResNet19
from respike.neurons.lif import LIF
from respike.neurons.surrogate import Rectangle, Surrogate
from respike.system import compiler

needs_compiler = pytest.mark.skipif(
    compiled.built(LIF(), 2, torch.float32) is None, reason="no C compiler with OpenMP on this machine"
)


@dataclass(frozen=True)
class Own(Surrogate):
    """Somebody's."""

    def derivative(self, x):
        return torch.exp(-(x**2))


def used(monkeypatch):
    """A list that gets an entry each time the fused operation runs."""
    calls, original = [], fused.norm_lif
    monkeypatch.setattr(fused, "norm_lif", lambda *given: calls.append(1) or original(*given))
    return calls


@needs_compiler
@pytest.mark.parametrize("neuron", NEURONS, ids=str)
@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_spikes_and_gradients_are_the_plain_modules_to_float32_rounding(monkeypatch, shortcut, neuron):
    calls = used(monkeypatch)
    for steps, channels in ((2, 5), (3, 8), (4, 20)):
        given = draw(neuron, shortcut, steps, channels)
        spikes, found = results(*given, "auto")
        expected, right = results(*given, "torch")
        assert torch.equal(spikes, expected)
        assert_same_gradients(found, right)
    assert len(calls) == 3


@needs_compiler
@pytest.mark.parametrize("reset", ["zero", "subtract"])
def test_a_potential_at_the_threshold_neither_fires_nor_is_reset(reset):
    """Currents are multiples of 1/8, so that potentials hit the threshold of 1/2 exactly; there are no norms, as in a test."""
    torch.manual_seed(0)
    layer = NormNeuron(LIF(v_th=0.5, tau=0.5, reset=reset), nn.Identity())
    y = torch.randint(-2, 7, (4, 3, 8, 4, 4)) / 8
    spikes = {}
    for backend in ("auto", "torch"):
        layer.backend = backend
        with torch.no_grad():
            spikes[backend] = layer(y)
    assert torch.equal(spikes["auto"], spikes["torch"])
    assert (y[0] == 0.5).any() and not spikes["auto"][0][y[0] == 0.5].any()


@needs_compiler
@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_bfloat16_differs_from_float32_by_the_rounding_of_what_is_written(shortcut):
    """Arithmetic is float32 in both: gradients of the inputs are rounded once to 8 bits, spikes are 0 and 1, sums as ever."""
    layer, inputs, gradient = draw(LIF(), shortcut, 2, 12, torch.bfloat16)
    spikes, found = results(layer, inputs, gradient, "auto")
    expected, right = results(layer, [x.float() for x in inputs], gradient.float(), "torch")
    assert spikes.dtype == torch.bfloat16 and torch.equal(spikes.float(), expected)
    assert_same_gradients(found, right)


@needs_compiler
def test_neither_threads_nor_the_layout_of_the_memory_change_it():
    layer, inputs, gradient = draw(LIF(), "normed", 2, 16, shape=(4, 8, 5))
    expected, right = results(layer, inputs, gradient, "auto")
    last = [x.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3) for x in (*inputs, gradient)]
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            spikes, found = results(layer, last[:-1], last[-1], "auto")
            _, again = results(layer, last[:-1], last[-1], "auto")
            assert torch.equal(spikes, expected)
            assert all(torch.equal(again[name], value) for name, value in found.items())  # sums are added in one order
            for name, value in right.items():
                torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-5)
    finally:
        torch.set_num_threads(before)


@needs_compiler
def test_in_eval_mode_it_uses_the_running_statistics(monkeypatch):
    calls = used(monkeypatch)
    layer, inputs, _ = draw(LIF(), "normed", 3, 20)
    for norm in (layer.norm, layer.shortcut_norm):
        norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2)
    layer.eval()
    before = deepcopy(layer.state_dict())
    with torch.no_grad():
        spikes = layer(*inputs)
        layer.backend = "torch"
        assert (spikes != layer(*inputs)).float().mean() < 1e-3
    assert len(calls) == 1 and all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())


@needs_compiler
def test_a_folded_network_fires_as_its_plain_modules_do(monkeypatch):
    calls = used(monkeypatch)
    net = SpikingResNet19(width_mult=1 / 8, input_shape=(1, 12, 12))
    net(torch.randn(8, 1, 12, 12))  # statistics to fold
    net, images, calls[:] = net.folded(), torch.randn(5, 1, 12, 12), []
    with torch.inference_mode():
        spikes = net.spikes(images)
        assert len(calls) == 17
        for layer in net.modules():
            if isinstance(layer, NormNeuron):
                layer.backend = "torch"
        assert torch.equal(spikes, net.spikes(images)) and len(calls) == 17


@needs_compiler
def test_two_processes_fire_and_learn_as_one_with_the_whole_batch(two_ranks):
    layer, (x,), weights = draw(LIF(), "none", 2, 5, shape=(4, 6, 5))
    layer.norm = TdBN(5, 0.4)  # as the processes have it
    parts = two_ranks(x, weights, "spikes")
    spikes, found = results(layer, [x], weights, "auto")
    assert torch.equal(torch.cat([part["out"] for part in parts], 1), spikes)
    torch.testing.assert_close(torch.cat([part["x"] for part in parts], 1), found["input 0"], rtol=1e-5, atol=1e-5)
    for name in ("weight", "bias"):
        torch.testing.assert_close(sum(part[name] for part in parts), found[f"norm.{name}"], rtol=1e-5, atol=1e-5)
    for part in parts:
        torch.testing.assert_close(part["var"], found["norm.running_var"])
        torch.testing.assert_close(part["mean"], found["norm.running_mean"])


@needs_compiler
def test_all_seventeen_maps_of_the_network_are_fused_under_autocast(monkeypatch):
    calls = used(monkeypatch)
    net = SpikingResNet19(width_mult=1 / 8, input_shape=(1, 12, 12))
    with torch.autocast("cpu", torch.bfloat16):
        loss = net(torch.randn(3, 1, 12, 12)).sum()
    loss.backward()
    assert len(calls) == 17
    assert all(parameter.grad is not None for parameter in net.parameters())


@pytest.mark.parametrize("why", ["surrogate", "float64", "steps", "folded", "states"])
def test_what_it_does_not_know_is_left_to_the_plain_modules(monkeypatch, caplog, why):
    calls = used(monkeypatch)
    layer = make(LIF(surrogate=Own() if why == "surrogate" else Rectangle()), "none", 4)
    y = torch.randn(17 if why == "steps" else 2, 2, 4, 3, 3)
    if why == "float64":
        layer, y = layer.double(), y.double()
    elif why == "folded":
        layer.norm = nn.Identity()
    plain = deepcopy(layer)
    plain.backend = "torch"
    with caplog.at_level("WARNING"):
        assert torch.equal(layer(y, states={} if why == "states" else None), plain(y)) and not calls
    reasons = {"surrogate": ["the surrogate Own"], "steps": ["T = 17, more than 16,"]}.get(why, [])
    assert [line.split(":")[0] for line in caplog.messages] == [
        f"the fused kernels do not support {r}" for r in reasons
    ]


@pytest.mark.parametrize("broken", ["absent", "failing"])
def test_without_a_compiler_the_plain_modules_run_and_one_line_says_so(monkeypatch, caplog, tmp_path, broken):
    caches = compiler.library, compiler._compiler, compiled._library
    for cached in caches:
        cached.cache_clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if broken == "absent":
        monkeypatch.delenv("CC", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        monkeypatch.setenv("CC", "false")
    try:
        layer, y = make(LIF(), "none", 4), torch.randn(2, 2, 4, 3, 3)
        expected = deepcopy(layer)
        expected.backend = "torch"
        assert all(torch.equal(layer(y), expected(y)) for _ in range(2))
    finally:
        for cached in caches:
            cached.cache_clear()
    assert sum("slower" in record.message for record in caplog.records) == 1
