"""MMSE thresholds are those of a brute-force search over the candidates, for every T and both roundings."""

import math

import pytest
import torch
from torch import nn

from respike.convert import mmse_norm
from respike.convert.graph.trace import read_graph
from respike.convert.rate.mmse import CANDIDATES, mmse_scale, squared_errors
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
def test_a_threshold_is_that_of_a_brute_force_search(case, rounding, shift, steps):
    graph, images, values = case
    for given in (images, iter(images.split(7))):
        by_channel = mmse_scale(steps, rounding)(graph, {"only": "relu1"}, given, True)["only"]
        assert by_channel.tolist() == pytest.approx([searched(row, steps, shift) for row in values], rel=1e-12)
    whole = mmse_scale(steps, rounding)(graph, {"only": "relu1"}, images)["only"]
    assert float(whole) == pytest.approx(searched(values.flatten(), steps, shift), rel=1e-12)


@pytest.mark.parametrize("start", [0.5, 0.0])
def test_the_errors_are_those_of_neurons_that_a_constant_current_drives(start):
    """A neuron started at half a threshold rounds to the nearest of its levels, one started at 0 rounds down."""
    a, steps = torch.arange(-1, 3, 0.03125, dtype=torch.float64), 8
    neuron, errors = IntegrateFire(reset="subtract", start=start), []
    for share in CANDIDATES:
        theta = share * a.max()
        spikes, _ = neuron.scan(a[None] / theta, steps)
        errors.append((spikes.mean(0) * theta - a.clamp(min=0)).square().sum())
    found = squared_errors(a[None], a.max().view(1), steps, start)
    torch.testing.assert_close(found[:, 0], torch.stack(errors))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_errors_add_up_over_parts_and_silent_rows_have_none(dtype):
    torch.manual_seed(1)
    rows = torch.rand(3, 200).to(dtype) * torch.tensor([[1.0], [0], [-1]], dtype=dtype)
    largest = rows.amax(1).clamp(min=0).double()
    whole = squared_errors(rows, largest, 5, 0.5)
    torch.testing.assert_close(whole, sum(squared_errors(part, largest, 5, 0.5) for part in rows.split(60, 1)))
    assert bool((whole[:, 0] > 0).all()) and bool((whole[:, 1:] == 0).all())


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
