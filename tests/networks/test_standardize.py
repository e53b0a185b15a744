"""data.mean and data.std: the network's first operation is (x - mean) / std, for conversion as for the ReLU network."""

import pytest
import torch
from torch import nn

from respike.convert import data_norm, exact_map, no_norm
from respike.networks.init import measure_batch_norms
from respike.networks.standardize import Standardize, Standardized, standardized
from respike.neurons.encode import Current, Rate
from respike.neurons.integrate_fire import IntegrateFire
from respike.simulate import simulate
from respike.simulate.ttfs import simulate_ttfs

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def pixels(images):
    return (images - torch.tensor(MEAN, dtype=images.dtype).view(3, 1, 1)) / torch.tensor(STD, dtype=images.dtype).view(
        3, 1, 1
    )


@pytest.fixture
def net():
    """Padded convolutions: zeros are put around standardized pixels, not around those in [0, 1]."""
    torch.manual_seed(0)
    first = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, stride=2, padding=1), nn.ReLU()
    return nn.Sequential(*first, nn.Flatten(), nn.Linear(36, 3)).double().eval()


@pytest.fixture
def images():
    return torch.rand(6, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_it_computes_the_network_of_standardized_images(net, images):
    with torch.no_grad():
        expected = net(pixels(images))
        assert (standardized(net, MEAN, STD).double()(images) - expected).abs().max() < 1e-6 * expected.abs().max()
    assert standardized(net, None, None) is net


def test_the_numbers_stay_in_training():
    net = Standardized(nn.Conv2d(3, 2, 1), MEAN, STD).train()
    images = torch.rand(4, 3, 5, 5)
    net(images)
    torch.testing.assert_close(net.standardize(images), pixels(images))


def test_what_keeps_the_variance_positive_for_torch_adds_nothing_to_it():
    layer = Standardize(MEAN, STD)
    assert layer.eps > 0 and torch.equal(layer.running_var + layer.eps, layer.running_var)


@pytest.mark.parametrize(("encode", "error"), [(Current(), 0.01), (Rate(1000), 0.1)], ids=["current", "rate"])
def test_rates_converge_to_it_border_included(net, images, encode, error):
    """The error of the mean output current falls as 1 / T, or as its root for random spikes.

    A uniform bias at the border would leave an error that stays.
    """
    whole = standardized(net, MEAN, STD).double()
    snn = data_norm(whole, images, readout="current")
    record = simulate(
        snn, images, encode=encode, neuron=IntegrateFire(reset="subtract", start=0.5), duration=2.0, weight_bits=None
    )
    with torch.no_grad():
        relu = whole(images)
    assert float((record.counts / record.steps - relu).abs().max()) < error * float(relu.abs().max())
    assert len(no_norm(whole, images).layers) == 3


def test_spike_times_are_exact_with_it(net, images):
    whole = standardized(net, MEAN, STD).double()
    record = simulate_ttfs(exact_map(whole, images), images)
    with torch.no_grad():
        relu = whole(images)
    assert float((record.logits - relu).abs().max()) < 1e-9 * float(relu.abs().max())


def test_measured_batch_norms_leave_each_channel_with_mean_zero_and_deviation_one():
    torch.manual_seed(0)
    norms = nn.BatchNorm2d(4), nn.BatchNorm2d(5)
    net = nn.Sequential(
        Standardize(MEAN, STD), nn.Conv2d(3, 4, 3), norms[0], nn.ReLU(), nn.Dropout(0.9), nn.Conv2d(4, 5, 3), norms[1]
    ).eval()
    images = torch.rand(16, 3, 9, 9)
    measure_batch_norms(net, [images])
    assert not any(module.training for module in net.modules()) and norms[0].momentum == 0.1
    with torch.no_grad():
        outputs = net(images).transpose(0, 1).flatten(1)
    torch.testing.assert_close(outputs.mean(1), torch.zeros(5), atol=1e-3, rtol=0)
    torch.testing.assert_close(outputs.std(1), torch.ones(5), atol=1e-2, rtol=0)
    torch.testing.assert_close(net[0].running_mean, torch.tensor(MEAN))
