"""The fixed-point grid: integers that stand for the network, and sums that stay exact."""

import copy
import math
from bisect import bisect_left

import pytest
import torch
from torch import nn

from respike.convert import no_norm
from respike.convert.graph.nodes import Scale
from respike.errors import InputError
from respike.networks.mlp import MLP
from respike.neurons.encode import Current, Rate
from respike.neurons.integrate_fire import IntegrateFire
from respike.simulate import simulate
from respike.simulate.rate.program import compile_fixed_point


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("analog", [True, False])
@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_the_grid_holds_integers_that_use_the_bits(draw_snn, wiring, bits, analog, bias):
    snn, images = draw_snn(wiring, bias=bias)
    program = compile_fixed_point(snn, images.shape[1:], IntegrateFire(start=0.3), bits, 20, 1.0 if analog else None)
    largest = 2 ** (bits - 1) - 1
    for layer in program.layers:
        neuron = torch.tensor([layer.neuron.threshold, layer.neuron.start_potential])
        values = [*layer.synapses.parameters(), *layer.synapses.buffers(), neuron]  # weights, biases, constant factors
        assert all(torch.equal(value, value.round()) for value in values)
        weights = [p for name, p in layer.synapses.named_parameters() if name.endswith("weight")]
        if len(layer.synapses.synapses) == 1 and weights:
            assert largest / 2 - 0.5 < float(weights[0].abs().max()) <= largest


@pytest.mark.parametrize("threshold", [0.5, 1.0, 2.0])
def test_weights_keep_their_ratio_to_the_threshold_within_half_a_unit(draw_snn, threshold):
    snn, images = draw_snn("fc")
    program = compile_fixed_point(snn, images.shape[1:], IntegrateFire(threshold), 8, 20, None)
    for layer, own in zip(program.layers, snn.layers.values(), strict=True):
        unit = layer.neuron.threshold / threshold
        assert unit == 2 ** round(math.log2(unit))
        for ours, exact in zip(layer.synapses.parameters(), own.parameters(), strict=True):
            assert (ours / unit - exact).abs().max() <= 0.5 / unit


@pytest.mark.parametrize(
    ("pool", "area"),
    [
        (nn.AvgPool2d(2), 4), (nn.AvgPool2d(3), 9), (nn.AvgPool2d((2, 3), 1), 6), (nn.AdaptiveAvgPool2d((2, 3)), 6),
        (nn.AdaptiveAvgPool2d((4, 9)), 4), (nn.AvgPool2d(4, ceil_mode=True), 64),
        (nn.AvgPool2d(3, padding=1, count_include_pad=False), 36),
    ],
)  # fmt: skip
def test_a_pool_keeps_its_integer_sum_and_multiplies_its_threshold_by_its_area(pool, area):
    snn = no_norm(nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), pool))
    for threshold in (1.0, 0.75):
        program = compile_fixed_point(snn, torch.Size((1, 6, 6)), IntegrateFire(threshold), 8, 20, None)
        layer = program.layers[1]
        spikes = torch.randint(0, 2, (5, 2, 6, 6), generator=torch.Generator().manual_seed(0)).double()
        drive = layer.synapses.drive({"conv1": spikes})
        assert torch.equal(drive, drive.round())
        torch.testing.assert_close(drive / layer.neuron.threshold, pool(spikes) / threshold, rtol=1e-12, atol=0)
        one_spike = layer.synapses.drive({"conv1": torch.ones_like(spikes)}).max() / area
        assert layer.neuron.threshold == threshold * area * one_spike


@pytest.mark.parametrize("encode", [Rate(800.0), Current(1.25)])
@pytest.mark.parametrize("spiking_pools", [True, False])
@pytest.mark.parametrize("reset", ["zero", "subtract"])
def test_a_network_that_lies_on_the_grid_is_simulated_exactly(
    draw_net, assert_same_record, wiring, encode, spiking_pools, reset
):
    """Weights are multiples of 1/32, pixels of 1/256, and pools divide by 2 and 4: float64 holds every sum as it is."""
    net, images = draw_net(wiring)
    for parameter in net.parameters():
        parameter.data = (parameter.data * 32).round() / 32
    images = (images[:6] * 256).round() / 256
    snn = no_norm(net, spiking_pools=spiking_pools)
    settings = {"encode": encode, "neuron": IntegrateFire(0.75, reset, 0.5), "duration": 0.015}
    exact = simulate(snn, images, **settings)
    assert 0 < exact.counts.double().mean() < 15
    assert_same_record(simulate(snn, images, weight_bits=14, **settings), exact)


@pytest.mark.parametrize("encode", [Rate(800.0), Current(1.25)])
@pytest.mark.parametrize("reset", ["zero", "subtract"])
def test_neurons_right_behind_a_pool_of_the_input_are_exact_too(assert_same_record, encode, reset):
    net = nn.Sequential(nn.AvgPool2d((1, 2)), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(1, 3, 2), nn.ReLU()).double()
    torch.manual_seed(0)
    for parameter in net.parameters():
        parameter.data = torch.randint(-16, 48, parameter.shape).double() / 64
    images = torch.randint(0, 257, (5, 1, 6, 12)).double() / 256
    settings = {"encode": encode, "neuron": IntegrateFire(0.75, reset), "duration": 0.015}
    exact = simulate(no_norm(net), images, **settings)
    assert 0 < exact.counts.double().mean() < 15
    assert_same_record(simulate(no_norm(net), images, weight_bits=12, **settings), exact)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("spiking_pools", [True, False])
@pytest.mark.parametrize("analog", [True, False])
@pytest.mark.parametrize("wiring", ["fc", "cnn", "identity", "projection"])
def test_the_grid_simulates_the_rounded_network(draw_snn, assert_same_record, wiring, bias, spiking_pools, analog):
    """Weights rounded here, by hand, to multiples of a power of two, in float64, where all these sums are exact too."""
    snn, images = draw_snn(wiring, 1, bias, spiking_pools)
    bits = 8
    rounded = copy.deepcopy(snn).double()
    for layer in rounded.layers.values():
        weights = [p for name, p in layer.named_parameters() if name.endswith("weight")]
        factors = [module.factor for module in layer.modules() if isinstance(module, Scale)]
        area = 4 if any(isinstance(module, nn.AvgPool2d) for module in layer.modules()) else 1
        largest = max((float(value.abs().max()) / area for value in [*weights, *factors]), default=0)
        if not largest:
            continue
        unit = 2.0 ** math.floor(math.log2((2 ** (bits - 1) - 1) / largest))
        input_unit = 2.0 ** (bits - 1) if analog and "input" in layer.sources else 1
        for p in weights:
            p.copy_((p / area * unit).round() / unit * area)
        if layer.bias is not None:
            layer.bias.copy_((layer.bias * input_unit * unit).round() / (input_unit * unit))
        for factor in factors:
            factor.copy_((factor * unit).round() / unit)
    encode = Current() if analog else Rate()
    given = (images.double() * 2 ** (bits - 1)).round() / 2 ** (bits - 1) if analog else images
    settings = {"encode": encode, "duration": 0.015, "neuron": IntegrateFire(reset="subtract")}
    on_grid = simulate(snn, images, weight_bits=bits, **settings)
    assert_same_record(on_grid, simulate(rounded, given, **settings))
    assert on_grid.counts.sum() > 0


@pytest.mark.parametrize("bits", [None, 8])
def test_a_bias_in_front_of_a_pool_is_averaged_not_summed(bits):
    """Drive 1/4 + 1/4 per step: every second step a spike."""
    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.AvgPool2d(2), nn.ReLU())
    for parameter in net.parameters():
        parameter.data.fill_(0.25)
    record = simulate(no_norm(net), torch.ones(1, 1, 2, 2), encode=Current(), weight_bits=bits, duration=0.012)
    assert record.counts.tolist() == [[6]]


def test_currents_above_1_count_towards_the_exact_integers():
    snn, images = no_norm(MLP([784, 10])), torch.ones(1, 1, 28, 28)
    simulate(snn, images, encode=Current(1), weight_bits=16, duration=0.5)
    with pytest.raises(InputError, match=r"^simulate\.weight_bits=16"):
        simulate(snn, images, encode=Current(1000), weight_bits=16, duration=0.5)


def test_sums_that_could_leave_the_exact_integers_are_refused():
    snn, shape = no_norm(MLP([784, 10])), torch.Size((1, 28, 28))
    with pytest.raises(InputError, match=r"^simulate\.weight_bits=24:.*'linear1'.*fewer bits"):
        compile_fixed_point(snn, shape, IntegrateFire(), 24, 500, 1.0)
    compile_fixed_point(snn, shape, IntegrateFire(), 16, 500, 1.0)
    compile_fixed_point(snn, shape, IntegrateFire(), 24, 500, None)


@pytest.mark.parametrize("spiking_pools", [True, False])
@pytest.mark.parametrize("largest_current", [None, 3.0])
def test_no_network_that_is_accepted_can_leave_the_exact_integers(draw_snn, wiring, spiking_pools, largest_current):
    """The most steps accepted, in powers of two, times the drive of spikes everywhere through weights of one sign."""
    snn, images = draw_snn(wiring, spiking_pools=spiking_pools)

    def program(k):
        return compile_fixed_point(snn, images.shape[1:], IntegrateFire(), 16, 2**k, largest_current)

    def refused(k):
        try:
            return not program(k)
        except InputError:
            return True

    first_refused = bisect_left(range(60), True, key=refused)
    assert 0 < first_refused < 60
    steps, program = 2 ** (first_refused - 1), program(first_refused - 1)
    values = {layer.name: torch.ones(1, *layer.shape, dtype=torch.float64) for layer in program.layers}
    values["input"] = (
        torch.ones(1, *images.shape[1:], dtype=torch.float64) * (program.input_grid or 1) * (largest_current or 1)
    )
    for layer in program.layers:
        synapses = copy.deepcopy(layer.synapses)
        for tensor in [*synapses.parameters(), *synapses.buffers()]:
            tensor.abs_()
        assert float(synapses.drive(values).max()) * steps < 2**53, layer.name


@pytest.mark.parametrize("bits", [1, 25])
def test_bits_outside_the_grid_are_refused(bits):
    with pytest.raises(InputError, match=rf"^simulate\.weight_bits={bits}: 2 to 24"):
        compile_fixed_point(no_norm(MLP([4, 2])), torch.Size((1, 2, 2)), IntegrateFire(), bits, 10, None)
