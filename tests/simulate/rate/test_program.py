"""A program holds what the network holds: its weights, its precision and its multiply-accumulates."""

import copy

import pytest
import torch

from respike.convert import no_norm
from respike.neurons.encode import Current, Rate
from respike.neurons.integrate_fire import IntegrateFire
from respike.simulate.rate.program import bounds_program, compile_fixed_point, compile_float, compile_program
from respike.simulate.rate.settings import Settings


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_float_program_has_the_networks_own_weights_and_precision(draw_net, wiring, dtype):
    net, images = draw_net(wiring)
    snn = no_norm(net.to(dtype))
    program = compile_float(snn, images.shape[1:], IntegrateFire(0.5))
    assert program.dtype == dtype
    for layer, own in zip(program.layers, snn.layers.values(), strict=True):
        assert layer.neuron == IntegrateFire(0.5)
        assert all(torch.equal(a, b) for a, b in zip(layer.synapses.parameters(), own.parameters(), strict=True))


def test_the_products_of_all_sources_are_those_of_the_network_on_the_grid_and_off(draw_snn, wiring):
    snn, images = draw_snn(wiring)
    exact, rounded = (
        compile_float(snn, images.shape[1:], IntegrateFire()),
        compile_fixed_point(snn, images.shape[1:], IntegrateFire(), 8, 20, None),
    )
    sources = ["input", *(layer.name for layer in exact.layers)]
    assert sum(map(exact.connections.macs, sources)) == exact.connections.macs() == rounded.connections.macs() > 0
    for ours, others in zip(exact.connections.layers, rounded.connections.layers, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours.fan_outs, others.fan_outs, strict=True))


@pytest.mark.parametrize("bits", [3, 8])
def test_currents_are_rounded_to_the_grid_and_spikes_are_not(draw_snn, bits):
    snn, images = draw_snn("fc")
    unit = 2 ** (bits - 1)
    program = compile_fixed_point(snn, images.shape[1:], IntegrateFire(), bits, 20, 1.0)
    currents = program.input_values(images[None])
    assert torch.equal(currents, (images.double() * unit).round()[None])
    assert (currents / unit - images).abs().max() <= 0.5 / unit
    spikes = torch.rand(20, 6, 3, 2, 2) > 0.5
    program = compile_fixed_point(snn, images.shape[1:], IntegrateFire(), bits, 20, None)
    assert torch.equal(program.input_values(spikes), spikes.double())


@pytest.mark.parametrize("encode", [Rate(), Current()])
@pytest.mark.parametrize("bits", [8, 16, None])
def test_bounds_are_those_of_the_program_that_runs(draw_snn, wiring, encode, bits):
    """Weights in single precision, whose integers of at most 24 bits it holds."""
    snn, images = draw_snn(wiring)
    settings = Settings(encode=encode, weight_bits=bits)
    whole = compile_program(snn, images.shape[1:], settings)
    bounds = bounds_program(snn, images.shape[1:], settings)
    assert bounds.connections.macs() == whole.connections.macs() and bounds.analog == whole.analog
    for ours, layer in zip(bounds.layers, whole.layers, strict=True):
        assert ours.name == layer.name and ours.largest_potential(20) == layer.largest_potential(20)
        for single, exact in zip(ours.synapses.parameters(), layer.synapses.parameters(), strict=True):
            assert torch.equal(single.double(), exact.double())


def test_compiling_leaves_the_network_alone(draw_snn, wiring):
    snn, images = draw_snn(wiring)
    before = copy.deepcopy(snn)
    compile_fixed_point(snn, images.shape[1:], IntegrateFire(), 8, 20, 1.0)
    compile_float(snn, images.shape[1:], IntegrateFire())
    assert str(snn) == str(before)
    assert all(
        torch.equal(a, b) and a.dtype == b.dtype
        for a, b in zip(snn.state_dict().values(), before.state_dict().values(), strict=True)
    )
