"""Arithmetic only, by hand: 4.6 pJ per multiply-accumulate, 0.9 pJ per accumulate (Horowitz 2014, 45 nm, 32-bit floats)."""

import pytest
import torch
from torch import nn

from respike.convert import no_norm, percentile_norm
from respike.metrics.activity import activity_metrics
from respike.metrics.energy import energy_metrics
from respike.networks.mlp import MLP
from respike.neurons.encode import Current
from respike.simulate import simulate


def test_spikes_cost_an_accumulate_per_synapse_they_reach(hand_made):
    """102 operations of 2 images, against 36 products."""
    assert energy_metrics(hand_made()) == pytest.approx(
        {"energy/ann_nj": 36 * 4.6e-3, "energy/snn_nj": 51 * 0.9e-3, "energy/mac_pj": 4.6, "energy/ac_pj": 0.9}
    )


def test_an_analog_input_costs_its_products_at_every_step(hand_made):
    record = hand_made(analog_macs=24)
    assert energy_metrics(record)["energy/snn_nj"] == pytest.approx(51 * 0.9e-3 + 4 * 24 * 4.6e-3)
    assert energy_metrics(record)["energy/ann_nj"] == pytest.approx(36 * 4.6e-3)


def test_a_network_that_never_spikes_costs_its_analog_input_only():
    net = MLP([12, 7, 3])
    for weight in net.parameters():
        weight.data.fill_(-1)
    energy = energy_metrics(simulate(no_norm(net), torch.rand(5, 1, 3, 4), encode=Current(), duration=0.01))
    assert energy["energy/snn_nj"] == pytest.approx(10 * 12 * 7 * 4.6e-3)
    assert energy["energy/ann_nj"] == pytest.approx((12 * 7 + 7 * 3) * 4.6e-3)


def test_carried_currents_cost_the_products_of_their_readers_at_every_step_and_have_no_rate():
    """A linear bottleneck between two ReLUs: spikes reach it by accumulates, and it costs 4 x 9 x 5 products a step."""
    torch.manual_seed(0)
    first, inner, outer = nn.Conv2d(1, 6, 1), nn.Conv2d(6, 4, 1, bias=False), nn.Conv2d(4, 5, 1, bias=False)
    net = nn.Sequential(first, nn.ReLU(), inner, outer, nn.ReLU(), nn.Flatten(), nn.Linear(45, 3, bias=False))
    images = torch.rand(4, 1, 3, 3)
    record = simulate(percentile_norm(net, images, readout="current"), images, encode=Current(), duration=0.02)
    assert record.neurons == {"input": 9, "conv1": 54, "conv3": 45} and record.analog_macs == 9 * 6 + 9 * 4 * 5
    spikes = {name: int(record.spikes[name].sum()) for name in record.spikes}
    assert spikes.keys() == {"conv1", "conv3"} and min(spikes.values()) > 0
    accumulates = (spikes["conv1"] * 4 + spikes["conv3"] * 3) / 4
    energy = energy_metrics(record)
    assert energy["energy/snn_nj"] == pytest.approx(accumulates * 0.9e-3 + 20 * record.analog_macs * 4.6e-3)
    assert energy["energy/ann_nj"] == pytest.approx((54 + 54 * 4 + 180 + 45 * 3) * 4.6e-3)
    assert activity_metrics(record)["snn/spikes_per_neuron"] == pytest.approx(sum(spikes.values()) / 4 / 99)


@pytest.mark.parametrize("rule", ["count", "gate"])
def test_a_max_pool_has_spikes_and_a_rate_but_no_neurons(rule):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3))
    images = torch.rand(5, 1, 6, 6)
    record = simulate(percentile_norm(net, images, max_pool=rule), images, encode=Current(), duration=0.02)
    (pool,) = record.pools
    assert record.neurons[pool] == 8 and int(record.spikes[pool].sum()) > 0
    measured = activity_metrics(record)
    neurons = sum(int(record.spikes[name].sum()) for name in record.spikes if name != pool) / 5
    assert measured["snn/spikes_per_neuron"] == pytest.approx(
        neurons / (32 + len(record.counts[0]) * ("linear1" in record.spikes))
    )
    assert measured[f"snn/rate/{pool}"] == pytest.approx(int(record.spikes[pool].sum()) / 5 / 8 / 0.02)


def test_spikes_of_every_input_at_every_step_cost_as_many_accumulates_as_products():
    """White images at one spike per step through one layer: T times the products, at the price of accumulates."""
    record = simulate(no_norm(MLP([12, 7])), torch.ones(4, 1, 3, 4), duration=0.01)
    energy = energy_metrics(record)
    assert energy["energy/snn_nj"] == pytest.approx(10 * energy["energy/ann_nj"] * 0.9 / 4.6)
