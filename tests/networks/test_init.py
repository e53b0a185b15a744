"""Initial weights are uniform in the published intervals."""

import math

import pytest
import torch
from scipy.stats import kstest
from torch import nn

from respike.networks.diehl_cnn import DiehlCNN
from respike.networks.init import glorot_positive_output, uniform
from respike.networks.mlp import MLP


def assert_uniform(weight, low, high):
    """Kolmogorov-Smirnov on the weights; a uniform sample fails once in 100,000."""
    values = weight.detach().flatten().double().numpy()
    assert low <= values.min() and values.max() <= high
    assert kstest(values, "uniform", args=(low, high - low)).pvalue > 1e-5


@pytest.mark.parametrize("bound", [0.01, 0.1])
def test_uniform_fills_the_interval_in_every_layer(bound):
    torch.manual_seed(0)
    net = MLP([60, 50, 40, 10])
    uniform(net, bound)
    for weight in net.parameters():
        assert_uniform(weight, -bound, bound)


def test_glorot_has_the_authors_bounds_and_a_positive_output_layer():
    """+-sqrt(6 / (fan_in + fan_out)), fans of a convolution being maps x kernel area; output in [0, that]."""
    torch.manual_seed(0)
    net = DiehlCNN()
    glorot_positive_output(net)
    first, second, output = net.parameters()
    for weight, fans in ((first, (1 + 12) * 25), (second, (12 + 64) * 25)):
        assert_uniform(weight, -math.sqrt(6 / fans), math.sqrt(6 / fans))
    assert_uniform(output, 0, math.sqrt(6 / (1024 + 10)))


@pytest.mark.parametrize("fill", [lambda net: uniform(net, 0.01), glorot_positive_output])
def test_start_weights_follow_the_seed_and_leave_biases_alone(fill):
    def filled(seed):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))
        biases = [net[i].bias.detach().clone() for i in (0, 2)]
        torch.manual_seed(seed)
        fill(net)
        assert all(torch.equal(net[i].bias, bias) for i, bias in zip((0, 2), biases, strict=True))
        return torch.cat([net[i].weight.detach().flatten() for i in (0, 2)])

    assert torch.equal(filled(1), filled(1))
    assert not (filled(1) == filled(2)).any()
