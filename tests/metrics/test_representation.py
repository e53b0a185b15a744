"""Rates against activations, and shares of neurons, on networks small enough to compute by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from respike.convert import data_norm, no_norm
from respike.convert.rate.operations import dissect
from respike.metrics.representation import rate_correlations, unit_shares
from respike.neurons.encode import Current
from respike.neurons.integrate_fire import IntegrateFire
from respike.simulate import simulate

SOFT = IntegrateFire(reset="subtract", start=0.5)


def two_layers(bias=0.0):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    net[1].bias.data += bias
    return net


@pytest.mark.parametrize("scale", ["layer", "channel"])
def test_correlations_are_those_of_the_spikes_of_a_simulation(scale):
    net, images = two_layers(), torch.rand(20, 1, 2, 3)
    snn = data_norm(net, images, scale=scale)
    anatomy = dissect(net, (1, 2, 3))
    settings = {"encode": Current(), "neuron": SOFT, "duration": 0.016, "weight_bits": None}
    found = rate_correlations(snn, anatomy.graph, anatomy.node_of_layer, images, **settings)
    traces = simulate(snn, images, trace=range(20), **settings).traces
    with torch.no_grad():
        values = {"linear1": net[:3](images), "linear2": net(images)}
    for layer, value in values.items():
        rates = torch.stack([traces[b].spikes[layer].mean(0) for b in range(20)]) * snn.scales[layer]
        expected = np.corrcoef(rates.flatten().numpy(), value.flatten().numpy())[0, 1]
        assert found[layer] == pytest.approx(expected, abs=1e-6)


def test_with_many_steps_rates_are_activations():
    net, images = two_layers(), torch.rand(20, 1, 2, 3)
    snn, anatomy = data_norm(net, images), dissect(net, (1, 2, 3))
    settings = {"encode": Current(), "neuron": SOFT}
    few, many = (
        rate_correlations(snn, anatomy.graph, anatomy.node_of_layer, images, duration=steps / 1000, **settings)
        for steps in (4, 500)
    )
    assert many["linear1"] > 0.99999 > few["linear1"]


def test_dead_neurons_never_are_positive_and_saturated_ones_pass_the_scale():
    net = nn.Sequential(nn.Flatten(), nn.Linear(1, 4, bias=False), nn.ReLU(), nn.Linear(4, 2))
    net[1].weight.data = torch.tensor([[-1.0], [0.5], [1.5], [3.0]])
    images = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1)
    anatomy = dissect(net, (1, 1, 1))
    shares = unit_shares(no_norm(net), anatomy.graph, anatomy.node_of_layer, [images[:1], images[1:]])
    assert shares == {"linear1": (0.25, 0.5)}  # a scale of 1
    assert unit_shares(data_norm(net, images), anatomy.graph, anatomy.node_of_layer, images) == {"linear1": (0.25, 0.0)}


def test_a_silent_layer_has_no_correlation():
    net, images = two_layers(bias=-100.0), torch.rand(3, 1, 2, 3)
    anatomy = dissect(net, (1, 2, 3))
    found = rate_correlations(no_norm(net), anatomy.graph, anatomy.node_of_layer, images, encode=Current())
    assert "linear1" not in found
