"""MMSE thresholds are those of a brute-force search over the candidates, for every T and both roundings."""

import math

import pytest
import torch
from torch import nn

from respike.convert import mmse_norm
from respike.convert.graph.trace import read_graph
from respike.convert.rate import mmse
from respike.convert.rate.mmse import mmse_scale, quantized
from respike.errors import InputError
from respike.neurons.integrate_fire import IntegrateFire


@pytest.fixture(scope="module")
def case():
    """A graph of one convolution with a ReLU, images, and the ReLU's values (C, n)."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).double()
    images = torch.rand(20, 1, 6, 6).double()
    graph = read_graph(net)
    return graph, images, graph.run(images)["relu1"].detach().transpose(0, 1).flatten(1)


def searched(values, steps, shift):
    """The candidate of least squared error, one value after the other."""
    top, errors = float(values.max()), []
    for k in range(95):
        theta = top * (1 - 0.01 * k)
        levels = (min(max(math.floor(steps * a / theta + shift), 0), steps) for a in values.tolist())
        errors.append(sum((a - theta / steps * level) ** 2 for a, level in zip(values.tolist(), levels, strict=True)))
    return top * (1 - 0.01 * errors.index(min(errors)))


@pytest.mark.parametrize(("rounding", "shift"), [("half", 0.5), ("floor", 0)])
@pytest.mark.parametrize("steps", [1, 3, 16])
def test_a_threshold_is_that_of_a_brute_force_search(case, monkeypatch, rounding, shift, steps):
    graph, images, values = case
    monkeypatch.setattr(mmse, "PART", 50)
    for given in (images, iter(images.split(7))):
        by_channel = mmse_scale(steps, rounding)(graph, {"only": "relu1"}, given, True)["only"]
        assert by_channel.tolist() == pytest.approx([searched(row, steps, shift) for row in values], rel=1e-12)
    whole = mmse_scale(steps, rounding)(graph, {"only": "relu1"}, images)["only"]
    assert float(whole) == pytest.approx(searched(values.flatten(), steps, shift), rel=1e-12)


@pytest.mark.parametrize(("start", "shift"), [(0.5, 0.5), (0.0, 0.0)])
def test_the_quantization_is_what_a_neuron_does_with_a_constant_current(start, shift):
    """A neuron started at half a threshold rounds to the nearest level, one started at 0 rounds down."""
    theta, steps = torch.tensor(2.0, dtype=torch.float64), 8
    a = torch.arange(-1, 3, 0.03125, dtype=torch.float64)
    neuron = IntegrateFire(reset="subtract", start=start)
    spikes, _ = neuron.scan(a[None] / theta, steps)
    torch.testing.assert_close(spikes.mean(0) * theta, quantized(a, theta, steps, shift))


def test_thresholds_approach_the_maximum_as_the_steps_grow(case):
    graph, images, values = case
    found = [mmse_scale(steps)(graph, {"only": "relu1"}, images)["only"] for steps in (2, 8, 32, 512)]
    assert found == sorted(found) and float(found[-1]) == pytest.approx(float(values.max()), rel=0.011)


def test_wrong_settings_are_refused():
    net, images = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.ReLU()), torch.rand(2, 1, 2, 2)
    with pytest.raises(InputError, match=r"^convert\.steps=0: .*as in convert\.steps="):
        mmse_norm(net, images, steps=0)
    with pytest.raises(InputError, match=r"^convert\.rounding=up: .*convert\.rounding=half or convert\.rounding=floor"):
        mmse_norm(net, images, steps=4, rounding="up")
