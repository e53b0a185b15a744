"""A network on a GPU is converted there, with the weights and the spikes that it has on the CPU. Needs a CUDA device."""

from functools import partial

import pytest
import torch
from torch import nn

from respike.convert import (
    calibrate_bias,
    data_norm,
    exact_map,
    local_threshold_norm,
    mmse_norm,
    model_norm,
    no_norm,
    percentile_norm,
)
from respike.networks.quantize import quantized
from respike.neurons.encode import Current
from respike.neurons.integrate_fire import IntegrateFire
from respike.simulate import simulate
from respike.simulate.ttfs import simulate_ttfs

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
SETTINGS = {"encode": Current(), "neuron": IntegrateFire(1.0, "subtract", 0.5), "duration": 0.006}
MMSE = partial(mmse_norm, scale="channel", readout="current", steps=6)
CONVERSIONS = {
    "none": no_norm,
    "model": model_norm,
    "data": data_norm,
    "percentile": partial(percentile_norm, scale="channel", readout="current"),
    "mmse": MMSE,
    "local thresholds": partial(local_threshold_norm, scale="channel"),
    "bias": partial(calibrate_bias, norm=MMSE, simulate=partial(simulate, **SETTINGS)),
}


@pytest.mark.parametrize("conversion", CONVERSIONS)
def test_a_conversion_on_a_gpu_is_that_on_the_cpu(every_unit, conversion):
    convert = CONVERSIONS[conversion]
    net, images = every_unit()
    here = convert(net, images)
    there = convert(net.to("cuda"), images)
    for (name, value), expected in zip(there.state_dict().items(), here.state_dict().values(), strict=True):
        assert value.device.type == "cuda", name
        torch.testing.assert_close(value.cpu(), expected)
    record, expected = (simulate(snn, x, **SETTINGS) for snn, x in ((there, images.to("cuda")), (here, images)))
    assert all(torch.equal(record.spikes[name], expected.spikes[name]) for name in expected.spikes)


@pytest.mark.parametrize(
    "settings", [{}, {"precision": "float32"}, {"time_noise": 0.01}, {"alpha_noise": 0.01}, {"levels": 8}]
)
def test_spike_times_on_a_gpu_are_those_on_the_cpu(settings):
    torch.manual_seed(0)
    first = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 6)
    net, images = nn.Sequential(*first, nn.ReLU(), nn.Linear(6, 4)).double().eval(), torch.rand(20, 1, 10, 10)
    here, there = exact_map(net, images), exact_map(net.to("cuda"), images)
    record, expected = simulate_ttfs(there, images.to("cuda"), **settings), simulate_ttfs(here, images, **settings)
    torch.testing.assert_close(record.logits, expected.logits, rtol=1e-4, atol=1e-4)
    assert record.counts.keys() == expected.counts.keys()


def test_a_network_on_a_gpu_is_quantized_there(every_unit):
    net, images = every_unit()
    few = images.to("cuda")
    assert quantized(net.to("cuda"), few, 8)(few).device.type == "cuda"
