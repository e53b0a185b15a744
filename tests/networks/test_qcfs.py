"""QCFS by its definition: values and gradients in closed form, ReLUs of any net replaced, networks as Bu et al. count them."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from respike.errors import InputError
from respike.networks.qcfs import QCFS, SMALLEST, qcfs, start_thresholds, with_qcfs
from respike.networks.resnet_cifar import ResNetCifar
from respike.networks.vgg16_cifar import VGG16Cifar
from respike.training.schedules import cosine_by_epoch


@given(theta=st.floats(0.1, 9), levels=st.integers(1, 16), seed=st.integers(0, 999))
def test_value_and_gradients_are_those_of_the_closed_form(theta, levels, seed):
    x = (torch.rand(50, generator=torch.Generator().manual_seed(seed)).double() * 3 - 1) * theta
    x.requires_grad_()
    threshold = torch.tensor(theta, dtype=torch.float64, requires_grad=True)
    weight = torch.linspace(-1, 1, 50).double()
    y = qcfs(x, threshold, levels)
    (weight * y).sum().backward()
    u = x.detach() / theta
    q = (levels * u.clamp(0, 1) + 0.5).floor() / levels
    inside = (u >= 0) & (u <= 1)
    torch.testing.assert_close(y.detach(), theta * q)
    torch.testing.assert_close(x.grad, weight * inside)
    by_theta = torch.where(inside, q - u, (u > 1).double())
    torch.testing.assert_close(threshold.grad, (weight * by_theta).sum())


def test_a_threshold_stays_positive_whatever_a_step_does():
    layer = QCFS(4, 0.5)
    optimizer = torch.optim.SGD(layer.parameters(), lr=100.0)
    for _ in range(3):
        optimizer.zero_grad()
        layer(torch.ones(3)).sum().backward()
        optimizer.step()
        assert layer.threshold >= SMALLEST
        assert bool(layer(torch.ones(3)).isfinite().all())


class Functions(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.relu, self.head = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Linear(16, 3)

    def forward(self, x):
        y = F.relu(self.conv(x))
        y = self.relu(y - 0.1) + self.relu(y - 0.2)
        return self.head(torch.relu(y).flatten(1))


def test_every_relu_of_a_forward_gets_a_threshold_of_its_own_and_weights_keep_their_names():
    torch.manual_seed(0)
    net = Functions()
    names = set(net.state_dict())
    x = torch.rand(5, 1, 4, 4)
    expected = net(x)
    quantized = with_qcfs(net, levels=1 << 20, threshold=100.0)
    layers = [module for module in quantized.modules() if isinstance(module, QCFS)]
    assert len(layers) == 4
    assert names <= set(quantized.state_dict())
    torch.testing.assert_close(quantized(x), expected, atol=1e-3, rtol=0)


def test_modules_are_replaced_in_place_and_an_output_keeps_its_relu():
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU6(), nn.Linear(3, 2), nn.ReLU())
    assert with_qcfs(net) is net
    assert [type(module) for module in net] == [nn.Linear, QCFS, nn.Linear, nn.ReLU]
    with pytest.raises(InputError, match="has no ReLU in front of its output"):
        with_qcfs(nn.Sequential(nn.Linear(4, 3), nn.ReLU()))


def test_start_thresholds_are_quantiles_of_the_relu_networks_activations():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 50), nn.ReLU(), nn.Linear(50, 20), nn.ReLU(), nn.Linear(20, 2))
    x = torch.rand(100, 4)
    first = net[:2](x)
    second = net[:4](x)
    start_thresholds(with_qcfs(net), x, 0.9)
    for layer, values in ((net[1], first), (net[3], second)):
        above = (values[values > 0] > layer.threshold).float().mean()
        assert float(above) == pytest.approx(0.1, abs=0.001)


def parameters(net):
    return sum(p.numel() for p in net.parameters())


def test_the_networks_have_the_parameters_and_thresholds_of_bu_et_al():
    for classes, vgg, resnet in ((10, 33_646_666, 272_474), (100, 34_015_396, 278_324)):
        with torch.device("meta"):
            nets = VGG16Cifar(classes), ResNetCifar(20, classes, shortcut="conv")
        assert [parameters(net) for net in nets] == [vgg, resnet]
    thresholds = [sum(isinstance(m, QCFS) for m in with_qcfs(net).modules()) for net in nets]
    assert thresholds == [15, 19]


def test_cosine_by_epoch_is_constant_within_an_epoch_and_cosine_between_them():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule, rates = cosine_by_epoch(optimizer, total_steps=12, epochs=4), []
    for _ in range(12):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    closed = [0.05 * (1 + torch.cos(torch.tensor(torch.pi * epoch / 4))).item() for epoch in range(4)]
    assert rates == pytest.approx([rate for rate in closed for _ in range(3)])
