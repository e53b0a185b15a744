"""tdBN: what it normalizes to, what it averages over, alone, in two processes, and folded into a convolution."""

import math

import pytest
import torch
from torch import nn

from respike.errors import InputError
from respike.layers.norm_neuron import NormNeuron
from respike.layers.over_time import over_time
from respike.layers.tdbn import TdBN, fold
from respike.neurons.lif import LIF


def currents(dtype=torch.float64, shape=(3, 4, 5, 6, 7)):
    random = torch.Generator().manual_seed(0)
    channels = torch.arange(shape[2], dtype=dtype)[:, None, None]
    return (channels + 1) * torch.randn(shape, dtype=dtype, generator=random) + 3 * channels


@pytest.mark.parametrize("alpha", [1.0, 1 / math.sqrt(2)])
def test_a_channel_is_brought_to_mean_0_and_deviation_alpha_v_th_over_time_and_batch(alpha):
    y = TdBN(5, v_th=0.4, alpha=alpha, eps=0).double()(currents())
    torch.testing.assert_close(y.mean((0, 1, 3, 4)), torch.zeros(5, dtype=torch.float64))
    torch.testing.assert_close(y.var((0, 1, 3, 4), correction=0).sqrt(), torch.full((5,), alpha * 0.4).double())
    assert not torch.allclose(y[0].mean((0, 2, 3)), torch.zeros(5).double(), atol=1e-3)  # a step alone keeps its mean


def test_two_branches_add_to_the_threshold():
    a, b = currents(), currents().flip(1) * 2 + 1
    y = TdBN(5, 0.4, 1 / math.sqrt(2)).double()(a) + TdBN(5, 0.4, 1 / math.sqrt(2)).double()(b)
    b_free = y.var((0, 1, 3, 4)).sqrt()
    assert ((b_free - 0.4).abs() < 0.06).all()  # independent branches, 504 numbers a channel


def test_it_is_torchs_batch_norm_on_time_folded_into_the_batch():
    """With the weight alpha * v_th: outputs, gradients, running statistics, eval mode."""
    ours, torchs = TdBN(5, 0.4, 0.5).double(), nn.BatchNorm2d(5).double()
    with torch.no_grad():
        ours.weight.copy_(torch.linspace(0.5, 2, 5)), ours.bias.copy_(torch.linspace(-1, 1, 5))
        torchs.weight.copy_(ours.weight * 0.4 * 0.5), torchs.bias.copy_(ours.bias)
    x, x2 = (currents().requires_grad_() for _ in range(2))
    for _ in range(2):
        y, expected = ours(x), over_time(torchs, x2)
        torch.testing.assert_close(y, expected)
    y.pow(3).sum().backward(), expected.pow(3).sum().backward()
    torch.testing.assert_close(x.grad, x2.grad)
    torch.testing.assert_close(ours.weight.grad, torchs.weight.grad * 0.4 * 0.5)
    torch.testing.assert_close(ours.bias.grad, torchs.bias.grad)
    torch.testing.assert_close(ours.running_mean, torchs.running_mean)
    torch.testing.assert_close(ours.running_var, torchs.running_var)
    torch.testing.assert_close(ours.eval()(x), over_time(torchs.eval(), x))


def test_bfloat16_is_normalized_in_float32():
    x = currents(torch.float32).bfloat16()
    y = TdBN(5, 0.4)(x)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, TdBN(5, 0.4)(x.float()))


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_one_number_per_channel_is_refused_in_training_as_by_torch_and_changes_nothing(backend):
    x = torch.randn(1, 1, 5, 1, 1)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        over_time(nn.BatchNorm2d(5), x)
    layer = NormNeuron(LIF(), TdBN(5, 0.4), backend=backend)
    with pytest.raises(InputError, match=r"one number per channel.*recipe\.batch_size"):
        layer(x)
    assert torch.equal(layer.norm.running_mean, torch.zeros(5)) and torch.equal(layer.norm.running_var, torch.ones(5))
    assert layer.eval()(x).isfinite().all()
    layer.train()(x, steps=2)  # two numbers, which are equal
    torch.testing.assert_close(layer.norm.running_var, torch.full((5,), 0.9))


@pytest.mark.parametrize("bias", [False, True])
def test_a_convolution_with_its_tdbn_folded_in_gives_the_same_currents(bias):
    conv, norm = nn.Conv2d(5, 5, 3, stride=2, padding=1, bias=bias).double(), TdBN(5, 0.4, 0.7).double()
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2, 5)), norm.bias.copy_(torch.linspace(-1, 1, 5))
    x = currents()
    for _ in range(3):
        norm(over_time(conv, x))
    torch.testing.assert_close(over_time(fold(conv, norm), x), norm.eval()(over_time(conv, x)))


def test_two_processes_normalize_and_learn_as_one_with_the_whole_batch(two_ranks):
    x, weights = currents(), currents().flip(0).cos()
    parts = two_ranks(x, weights, "current")
    layer = NormNeuron(LIF(), TdBN(5, 0.4)).double()
    alone = x.clone().requires_grad_()
    out = layer.current(alone)
    (out * weights).sum().backward()
    torch.testing.assert_close(torch.cat([part["out"] for part in parts], 1), out.detach())
    torch.testing.assert_close(torch.cat([part["x"] for part in parts], 1), alone.grad)
    torch.testing.assert_close(sum(part["weight"] for part in parts), layer.norm.weight.grad)
    torch.testing.assert_close(sum(part["bias"] for part in parts), layer.norm.bias.grad)
    for part in parts:
        torch.testing.assert_close(part["var"], layer.norm.running_var)
        torch.testing.assert_close(part["mean"], layer.norm.running_mean)
