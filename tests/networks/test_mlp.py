"""Fully-connected networks: what they compute, and the authors' dropout and unmasked output error."""

import math

import pytest
import torch
from torch import nn

from respike.errors import InputError
from respike.networks.mlp import MLP, MaskDropout, UnmaskedReLU


def test_the_published_network_has_weights_only():
    shapes = {name: tuple(p.shape) for name, p in MLP([784, 1200, 1200, 10], dropout=0.5).named_parameters()}
    assert sum(a * b for a, b in shapes.values()) == 784 * 1200 + 1200 * 1200 + 1200 * 10
    assert all(name.endswith("weight") for name in shapes)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("output_relu", ["masked", "unmasked", "none"])
def test_it_computes_a_chain_of_relus_of_products(bias, output_relu):
    torch.manual_seed(0)
    net, images = MLP([6, 7, 5, 4], bias=bias, output_relu=output_relu).double(), torch.rand(20, 1, 2, 3).double()
    x = images.reshape(20, 6)
    for module in [module for module in net if isinstance(module, nn.Linear)]:
        drive = x @ module.weight.T + (module.bias if bias else 0)
        x = drive.clamp(min=0)
    assert (drive < 0).any()
    for mode in (net.train(), net.eval()):
        torch.testing.assert_close(mode(images), drive if output_relu == "none" else x, rtol=1e-12, atol=1e-12)


def test_dropout_masks_at_training_and_scales_at_test():
    """A plain mask at training, no factor 1 / (1 - p); activations times (1 - p) at test, the mean of the mask."""
    p, x = 0.3, torch.rand(100_000, generator=torch.Generator().manual_seed(0)).double() + 0.5
    torch.manual_seed(0)
    dropout = MaskDropout(p)
    y, kept = dropout.train()(x), dropout.train()(x) != 0
    assert torch.equal(y, torch.where(y != 0, x, 0))
    assert abs(int(kept.sum()) - (1 - p) * len(x)) <= 5 * math.sqrt(len(x) * p * (1 - p))
    assert (y.bool() != kept).any(), "a mask must be drawn anew each time"
    assert torch.equal(dropout.eval()(x), x * (1 - p))


def test_dropout_stands_behind_each_hidden_layer_only():
    torch.manual_seed(0)
    net, images = MLP([4, 8, 8, 3], dropout=0.25).eval(), torch.rand(5, 1, 2, 2)
    plain = MLP([4, 8, 8, 3]).eval()
    for ours, other in zip(plain.parameters(), net.parameters(), strict=True):
        ours.data.copy_(other)
    torch.testing.assert_close(net(images), plain(images) * 0.75**2)


@pytest.mark.parametrize("p", [-0.1, 1, 1.5, float("nan")])
def test_a_share_to_drop_outside_0_to_1_is_refused(p):
    with pytest.raises(InputError, match=rf"^model\.dropout={p}.*model\.dropout=0\.5$"):
        MaskDropout(p)


def test_the_gradient_of_an_unmasked_relu_is_1_everywhere_at_training():
    x = torch.linspace(-3, 3, 31, requires_grad=True)
    relu = UnmaskedReLU().train()
    assert torch.equal(relu(x), x.relu()) and torch.equal(relu.eval()(x), x.relu())
    (gradient,) = torch.autograd.grad(relu.train()(x).sum(), x)
    assert torch.equal(gradient, torch.ones(31))


def test_an_unmasked_output_passes_its_error_to_silent_classes():
    """The authors' FC trainer: with a masked ReLU a class whose drive is negative never learns."""
    x, target = torch.ones(1, 2), torch.ones(1, 3)
    gradients = {}
    for output_relu in ("masked", "unmasked"):
        net = MLP([2, 3], output_relu=output_relu).train()
        net[1].weight.data.fill_(-1)
        (0.5 * (net(x) - target).square().sum()).backward()
        gradients[output_relu] = net[1].weight.grad
    assert torch.equal(gradients["masked"], torch.zeros(3, 2))
    assert torch.equal(gradients["unmasked"], -torch.ones(3, 2))


@pytest.mark.parametrize("sizes", [[], [784], [784, 0, 10]])
def test_sizes_that_make_no_network_are_refused(sizes):
    with pytest.raises(InputError, match=r"^model\.sizes=.*model\.sizes=\[784,1200,10\]"):
        MLP(sizes)


def test_an_unknown_output_relu_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match=r"^model\.output_relu=yes.*masked, unmasked, none"):
        MLP([4, 2], output_relu="yes")
