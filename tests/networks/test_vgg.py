"""The published networks layer by layer, as the reference table and the authors' Keras summaries count them."""

import pytest
import torch
from torch import nn

from respike.errors import InputError
from respike.networks.lenet import LeNet5
from respike.networks.standardize import Standardize
from respike.networks.vgg import VGG, VGGCifar, VGGMnist


def written(net):
    """Maps of each convolution and width of each linear layer, P for a pool, in order."""
    names = {nn.MaxPool2d: lambda m: "P", nn.Conv2d: lambda m: m.out_channels, nn.Linear: lambda m: m.out_features}
    return [names[type(m)](m) for m in net if type(m) in names]


def parameters(net):
    return sum(p.numel() for p in net.parameters())


def test_lenet_is_6c5_same_16c5_120c5_84_10_with_a_batch_norm_before_every_relu():
    net = LeNet5(dropout=0.08)
    assert written(net) == [6, "P", 16, "P", 120, 84, 10]
    norms = sum(2 * n for n in (6, 16, 120, 84))
    assert parameters(net) == (25 + 1) * 6 + (150 + 1) * 16 + (400 + 1) * 120 + 121 * 84 + 85 * 10 + norms
    modules = list(net)
    for i, module in enumerate(modules):
        if isinstance(module, nn.ReLU):
            assert isinstance(modules[i - 1], nn.BatchNorm2d | nn.BatchNorm1d)
    assert [type(m) for m in net].count(nn.Dropout) == 3
    assert net.eval()(torch.rand(2, 1, 28, 28)).shape == (2, 10)


def test_vgg_of_mnist_has_16_layers_and_of_cifar_15():
    mnist, cifar = VGGMnist(), VGGCifar(classes=100)
    deep = [256, 256, 256, "P", 512, 512, 512, "P", 512, 512, 512, "P"]
    assert written(mnist) == [64, 64, 128, 128, "P", *deep, 512, 512, 10]
    assert written(cifar) == [64, 64, "P", 128, 128, "P", *deep, 512, 100]
    for net, images in ((mnist, torch.rand(2, 1, 28, 28)), (cifar, torch.rand(2, 3, 32, 32))):
        modules = list(net)
        for i, module in enumerate(modules):
            if isinstance(module, nn.ReLU):
                assert isinstance(modules[i + 1], nn.BatchNorm2d | nn.BatchNorm1d)
        assert net.eval()(images).shape == (2, written(net)[-1])


def test_cifar_drops_as_the_authors_do():
    """.3 behind the first convolution, .4 behind those that no pool follows, .5 behind the last pool and the linear layer."""
    shares = [m.p for m in VGGCifar() if isinstance(m, nn.Dropout)]
    assert shares == [0.3, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.5, 0.5]


def test_standardized_pixels_have_the_given_mean_and_deviation_in_training_too():
    pixels = torch.rand(50, 3, 8, 8)
    standardize = nn.Sequential(Standardize([0.5, 0.4, 0.3], [0.2, 0.25, 0.1])).train()[0]
    expected = (pixels - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor([0.2, 0.25, 0.1]).view(3, 1, 1)
    torch.testing.assert_close(standardize(pixels), expected, rtol=1e-5, atol=1e-5)
    assert not list(standardize.parameters())
    with pytest.raises(InputError, match=r"model\.std"):
        Standardize([0.5], [0.0])


def test_images_too_small_for_the_pools_are_refused():
    with pytest.raises(InputError, match="too small"):
        VGG([4, "P", 4, "P"], [], (1, 3, 3))
    with pytest.raises(InputError, match="28 pixels"):
        LeNet5(input_shape=(1, 20, 20))
