"""Shapes, fan-outs and multiply-accumulates, counted edge by edge."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from respike.convert import no_norm
from respike.errors import InputError
from respike.networks.diehl_cnn import DiehlCNN
from respike.networks.mlp import MLP
from respike.neurons.integrate_fire import IntegrateFire
from respike.simulate.connections import fan_out, path_shape, sum_pool, with_plain_pools
from respike.simulate.rate.program import compile_float


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
    assert torch.equal(program.connections.layers[0].fan_outs[0], expected)
    assert program.connections.macs() == int(expected.sum())


@given(
    sizes=st.tuples(st.integers(5, 9), st.integers(5, 9)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 2)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 1)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    groups=st.sampled_from([1, 2, 4]),
)
def test_fan_outs_of_a_convolution_are_the_gradient_of_the_sum_of_its_outputs(
    sizes, kernel, stride, padding, dilation, groups
):
    conv = nn.Conv2d(4, 8, kernel, stride, padding, dilation, groups, bias=False)
    conv.weight.data.fill_(1)
    image = torch.ones(1, 4, *sizes, requires_grad=True)
    conv(image).sum().backward()
    assert torch.equal(fan_out([conv], torch.Size((4, *sizes))), image.grad[0].long())
    assert path_shape([conv], torch.Size((4, *sizes))) == conv(image).shape[1:]


def test_fan_outs_of_pools_linear_layers_and_groups():
    net = nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(24, 5))
    conv, pool, linear = compile_float(no_norm(net), torch.Size((2, 7, 9)), IntegrateFire()).connections.layers
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
    assert program.connections.macs("input") == first
    assert program.connections.macs() == first + 64 * 8 * 8 * 12 * 25 + 1024 * 10


def test_zero_weights_are_connections_too():
    net = MLP([4, 3])
    net[1].weight.data.zero_()
    assert compile_float(no_norm(net), torch.Size((1, 2, 2)), IntegrateFire()).connections.macs() == 12


@pytest.mark.parametrize("shape", [(1, 5, 5), (3, 28, 28)])
def test_images_that_do_not_fit_are_refused(shape):
    with pytest.raises(InputError, match=rf"{shape[0]}, {shape[1]}, {shape[2]}"):
        compile_float(no_norm(DiehlCNN()), torch.Size(shape), IntegrateFire())


@pytest.mark.parametrize(
    "pool",
    [
        nn.AdaptiveAvgPool2d((7, 4)), nn.AdaptiveAvgPool2d((9, 10)), nn.AvgPool2d(4, 3, ceil_mode=True),
        nn.AvgPool2d(3, 2, 1, count_include_pad=False), nn.AvgPool2d(3, 2, 1, True),
    ],
)  # fmt: skip
def test_pools_with_windows_of_unequal_size_are_maps_of_places(pool):
    """Their values, their fan-outs, and their whole numbers."""
    maps = torch.rand(2, 3, 5, 6, dtype=torch.float64)
    (places,) = with_plain_pools([pool], maps.shape[1:])
    torch.testing.assert_close(places(maps), pool(maps), rtol=1e-12, atol=0)
    whole, divisor = sum_pool(places)
    assert all(bool((axis == axis.round()).all()) for axis in (whole.rows, whole.columns))
    torch.testing.assert_close(whole(maps) / divisor, pool(maps), rtol=1e-12, atol=0)
    one = torch.zeros(30, 1, 5, 6, dtype=torch.float64).flatten(1).fill_diagonal_(1).view(30, 1, 5, 6)
    assert torch.equal(fan_out([places], torch.Size((1, 5, 6))).flatten(), (pool(one) > 0).flatten(1).sum(1))


def test_an_adaptive_pool_to_a_larger_size_is_multiplied_into_the_linear_layer_behind_it():
    path = [nn.AdaptiveAvgPool2d(7), nn.Flatten(), nn.Linear(2 * 49, 300, bias=False)]
    flatten, linear = with_plain_pools(path, torch.Size((2, 2, 3)))
    maps = torch.rand(4, 2, 2, 3)
    assert linear.in_features == 12
    torch.testing.assert_close(linear(flatten(maps)), nn.Sequential(*path)(maps))


class Broadcast(nn.Module):
    """One number per map is added to every pixel of it."""

    def __init__(self):
        super().__init__()
        self.conv, self.pool = nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1)

    def forward(self, x):
        x = F.relu(self.conv(x))
        return F.relu(x + self.pool(x))


def test_branches_of_unlike_shapes_are_refused():
    with pytest.raises(InputError, match=r"branches of shapes .*\(2, 4, 4\)"):
        compile_float(no_norm(Broadcast()), torch.Size((1, 6, 6)), IntegrateFire())
