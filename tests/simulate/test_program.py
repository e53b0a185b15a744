"""Programs: the fixed-point grid, thresholds of pools, fan-outs and multiply-accumulates counted edge by edge."""

import copy
import itertools
import math

import pytest
import torch
from torch import nn

from respike.convert import no_norm
from respike.convert.graph import Scale
from respike.errors import InputError
from respike.networks.diehl_cnn import DiehlCNN
from respike.networks.mlp import MLP
from respike.neurons.encode import Current, Rate
from respike.neurons.integrate_fire import IntegrateFire
from respike.simulate import simulate
from respike.simulate.grid import compile_grid
from respike.simulate.program import compile_float


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("analog", [True, False])
@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_the_grid_holds_integers_that_use_the_bits(draw_snn, wiring, bits, analog, bias):
    snn, images = draw_snn(wiring, bias=bias)
    program = compile_grid(snn, images.shape[1:], IntegrateFire(start=0.3), bits, 20, 1.0 if analog else None)
    largest = 2 ** (bits - 1) - 1
    for layer in program.layers:
        neuron = torch.tensor([layer.neuron.threshold, layer.neuron.start])
        values = [*layer.synapses.parameters(), *layer.synapses.buffers(), neuron]  # weights, biases, constant factors
        assert all(torch.equal(value, value.round()) for value in values)
        weights = [p for name, p in layer.synapses.named_parameters() if name.endswith("weight")]
        if len(layer.synapses.synapses) == 1 and weights:
            assert largest / 2 - 0.5 < float(weights[0].abs().max()) <= largest


@pytest.mark.parametrize("threshold", [0.5, 1.0, 2.0])
def test_weights_keep_their_ratio_to_the_threshold_within_half_a_unit(draw_snn, threshold):
    snn, images = draw_snn("fc")
    program = compile_grid(snn, images.shape[1:], IntegrateFire(threshold), 8, 20, None)
    for layer, own in zip(program.layers, snn.layers.values(), strict=True):
        unit = layer.neuron.threshold / threshold
        assert unit == 2 ** round(math.log2(unit))
        for ours, exact in zip(layer.synapses.parameters(), own.parameters(), strict=True):
            assert (ours / unit - exact).abs().max() <= 0.5 / unit


@pytest.mark.parametrize(
    ("pool", "area"),
    [(nn.AvgPool2d(2), 4), (nn.AvgPool2d(3), 9), (nn.AvgPool2d((2, 3), 1), 6), (nn.AdaptiveAvgPool2d((2, 3)), 6)],
)
def test_a_pool_keeps_its_integer_sum_and_multiplies_its_threshold_by_its_area(pool, area):
    snn = no_norm(nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), pool))
    for threshold in (1.0, 0.75):
        program = compile_grid(snn, torch.Size((1, 6, 6)), IntegrateFire(threshold), 8, 20, None)
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
    settings = {"encode": encode, "reset": reset, "threshold": 0.75, "start": 0.5, "duration": 0.015}
    exact = simulate(snn, images, **settings)
    assert 0 < exact.counts.double().mean() < 15
    assert_same_record(simulate(snn, images, weight_bits=14, **settings), exact)


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
        for name, p in layer.named_parameters():
            scale = area if name.endswith("weight") else 1 / input_unit
            p.copy_((p / scale * unit).round() / unit * scale)
        for factor in factors:
            factor.copy_((factor * unit).round() / unit)
    encode = Current() if analog else Rate()
    given = (images.double() * 2 ** (bits - 1)).round() / 2 ** (bits - 1) if analog else images
    settings = {"encode": encode, "duration": 0.015, "reset": "subtract"}
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
        compile_grid(snn, shape, IntegrateFire(), 24, 500, 1.0)
    compile_grid(snn, shape, IntegrateFire(), 16, 500, 1.0)
    compile_grid(snn, shape, IntegrateFire(), 24, 500, None)


@pytest.mark.parametrize("spiking_pools", [True, False])
@pytest.mark.parametrize("largest_current", [None, 3.0])
def test_no_network_that_is_accepted_can_leave_the_exact_integers(draw_snn, wiring, spiking_pools, largest_current):
    """The most steps accepted, in powers of two, times the drive of spikes everywhere through weights of one sign."""
    snn, images = draw_snn(wiring, spiking_pools=spiking_pools)
    for k in range(60):
        try:
            program = compile_grid(snn, images.shape[1:], IntegrateFire(), 16, 2**k, largest_current)
        except InputError:
            break
        steps = 2**k
    assert k < 59
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
        compile_grid(no_norm(MLP([4, 2])), torch.Size((1, 2, 2)), IntegrateFire(), bits, 10, None)


def window(size, kernel, stride, padding):
    """For each output position, the input positions its window covers."""
    count = (size + 2 * padding - kernel) // stride + 1
    return [
        [p for p in range(o * stride - padding, o * stride - padding + kernel) if 0 <= p < size] for o in range(count)
    ]


def edges_per_pixel(shape, kernel, stride, padding, maps):
    """How many output neurons each input neuron (C, H, W) reaches, counted one by one."""
    edges = torch.zeros(shape, dtype=torch.int64)
    rows, columns = (window(size, kernel, stride, padding) for size in shape[1:])
    for ys, xs in itertools.product(rows, columns):
        for y, x in itertools.product(ys, xs):
            edges[:, y, x] += maps
    return edges


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 0), (3, 2, 1), (2, 3, 0), (4, 3, 2), (1, 2, 0)])
def test_fan_outs_count_every_edge_of_a_convolution(kernel, stride, padding):
    net = nn.Sequential(nn.Conv2d(2, 3, kernel, stride, padding), nn.ReLU())
    program = compile_float(no_norm(net), torch.Size((2, 7, 9)), IntegrateFire())
    expected = edges_per_pixel((2, 7, 9), kernel, stride, padding, 3)
    assert torch.equal(program.layers[0].fan_outs[0], expected)
    assert program.macs() == int(expected.sum())


def test_fan_outs_of_pools_linear_layers_and_groups():
    net = nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(24, 5))
    conv, pool, linear = compile_float(no_norm(net), torch.Size((2, 7, 9)), IntegrateFire()).layers
    assert torch.equal(conv.fan_outs[0], edges_per_pixel((2, 7, 9), 3, 1, 0, 2))
    expected = edges_per_pixel((4, 5, 7), 2, 2, 0, 1)
    assert torch.equal(pool.fan_outs[0], expected) and (expected[:, 4] == 0).all()
    assert torch.equal(linear.fan_outs[0], torch.full((4, 2, 3), 5))


@pytest.mark.parametrize("spiking_pools", [True, False])
def test_multiply_accumulates_are_those_of_the_relu_network(spiking_pools):
    """12 maps of 24x24, 64 of 8x8 from 12, then 1024 x 10, whatever the pools become."""
    snn = no_norm(DiehlCNN(), spiking_pools=spiking_pools)
    program = compile_float(snn, torch.Size((1, 28, 28)), IntegrateFire())
    first = 12 * 24 * 24 * 25
    assert program.macs("input") == first
    assert program.macs() == first + 64 * 8 * 8 * 12 * 25 + 1024 * 10


def test_zero_weights_are_connections_too():
    net = MLP([4, 3])
    net[1].weight.data.zero_()
    assert compile_float(no_norm(net), torch.Size((1, 2, 2)), IntegrateFire()).macs() == 12


@pytest.mark.parametrize("shape", [(1, 5, 5), (3, 28, 28)])
def test_images_that_do_not_fit_are_refused(shape):
    with pytest.raises(InputError, match=rf"{shape[0]}, {shape[1]}, {shape[2]}"):
        compile_float(no_norm(DiehlCNN()), torch.Size(shape), IntegrateFire())


def test_adaptive_pools_with_unequal_windows_are_refused():
    snn = no_norm(nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(32, 3)))
    with pytest.raises(InputError, match=r"adaptive pool.*unequal"):
        compile_float(snn, torch.Size((1, 6, 6)), IntegrateFire())


@pytest.mark.parametrize("pool", [nn.AvgPool2d(2, ceil_mode=True), nn.AvgPool2d(2, padding=1, count_include_pad=False)])
def test_pools_that_divide_by_unequal_areas_are_refused_on_the_grid(pool):
    snn = no_norm(nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), pool, nn.ReLU()))
    with pytest.raises(InputError, match="unequal areas"):
        compile_grid(snn, torch.Size((1, 5, 5)), IntegrateFire(), 8, 10, None)


def test_compiling_leaves_the_network_alone(draw_snn, wiring):
    snn, images = draw_snn(wiring)
    before = copy.deepcopy(snn)
    compile_grid(snn, images.shape[1:], IntegrateFire(), 8, 20, 1.0)
    compile_float(snn, images.shape[1:], IntegrateFire())
    assert str(snn) == str(before)
    assert all(
        torch.equal(a, b) and a.dtype == b.dtype
        for a, b in zip(snn.state_dict().values(), before.state_dict().values(), strict=True)
    )
