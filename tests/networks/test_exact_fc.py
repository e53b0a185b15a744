import pytest
import torch
from torch import nn

from respike.errors import InputError
from respike.networks.exact_fc import ExactFC


def test_it_is_the_published_784_600_10_with_dropout_on_the_pixels_too():
    net = ExactFC(dropout=0.08)
    assert sum(p.numel() for p in net.parameters()) == 784 * 600 + 600 + 600 * 10 + 10
    kinds = [type(module) for module in net]
    assert kinds == [nn.Flatten, nn.Dropout, nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]
    first, second = (module for module in net if isinstance(module, nn.Linear))
    images = torch.rand(4, 1, 28, 28)
    expected = second(first(images.flatten(1)).clamp(min=0))
    assert torch.equal(net.eval()(images), expected)


def test_sizes_that_make_no_network_are_refused():
    with pytest.raises(InputError, match=r"model.sizes=\[784\]"):
        ExactFC([784])
