"""Local threshold balancing: thresholds only grow and descend their own loss, front to back on clipped inputs."""

import pytest
import torch
from torch import nn

from respike.convert import local_threshold_norm
from respike.convert.rate.local_threshold import LEAST, step_up
from respike.errors import InputError


def loss(theta, x):
    return (x - theta[:, None]).clamp(min=0).square().mean(1)


def test_an_update_is_minus_the_derivative_of_the_clipping_loss():
    torch.manual_seed(0)
    x, theta = torch.randn(5, 200).double(), torch.rand(5).double().requires_grad_()
    loss(theta, x).sum().backward()
    torch.testing.assert_close(step_up(theta.detach(), x), theta.detach() - theta.grad)


@pytest.mark.parametrize("seed", range(3))
def test_thresholds_only_grow_and_descend_their_loss(seed):
    """The curvature of the loss is at most 2, so that a step of rate 1 never passes over a higher point."""
    torch.manual_seed(seed)
    x, theta = (
        torch.randn(6, 500).exp().double() - torch.tensor([[0.0], [1], [2], [5], [9], [50]]),
        torch.zeros(6).double(),
    )
    for _ in range(50):
        after = step_up(theta, x)
        assert bool((after >= theta).all()) and bool((loss(after, x) <= loss(theta, x) * (1 + 1e-12)).all())
        theta = after
    assert bool((theta[:5] > 0).all())


class Two(nn.Module):
    """Two convolutions with ReLUs, and a Linear."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(1, 3, 3), nn.Conv2d(3, 4, 3, padding=1), nn.Linear(64, 5)

    def forward(self, x):
        return self.head(self.second(self.first(x).relu()).relu().flatten(1))


def by_hand(net, images, batches, size):
    """The rule written out for the two layers of `Two`."""
    thetas = [torch.zeros(3).double(), torch.zeros(4).double()]
    for batch in images[: batches * size].split(size):
        x = batch
        for i, layer in enumerate((net.first, net.second)):
            x = layer(x)
            theta = thetas[i].view(1, -1, 1, 1)
            thetas[i] = thetas[i] + 2 * (x - theta).clamp(min=0).mean((0, 2, 3))
            x = x.clamp(min=0).minimum(thetas[i].view(1, -1, 1, 1))
    return thetas


@pytest.mark.parametrize(("batches", "size"), [(1, 30), (7, 4), (3, 10)])
def test_the_scales_are_the_thresholds_of_the_rule_front_to_back(batches, size):
    torch.manual_seed(1)
    net, images = Two().double().requires_grad_(False), torch.rand(30, 1, 6, 6).double()
    expected = [theta.clamp(min=LEAST * theta.max()) for theta in by_hand(net, images, batches, size)]
    for given in (images, iter(images.split(9)), list(images.split(1))):
        snn = local_threshold_norm(net, given, batches=batches, batch_size=size)
        for name, theta in zip(snn.layers, expected, strict=False):
            found = snn.scales[name]
            torch.testing.assert_close(found, theta)


@pytest.mark.parametrize("setting", ["batches", "batch_size"])
def test_less_than_one_batch_or_image_is_refused(setting):
    with pytest.raises(InputError, match=rf"^convert\.{setting}=0: .*as in convert\.{setting}="):
        local_threshold_norm(Two(), torch.rand(2, 1, 6, 6), **{setting: 0})
