"""The estimate by hand: 4.6 pJ per multiply-accumulate, 0.9 pJ per accumulate (Horowitz 2014, 45 nm, 32-bit floats)."""

import pytest
import torch

from respike.convert import no_norm
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


def test_spikes_of_every_input_at_every_step_cost_as_many_accumulates_as_products():
    """White images at one spike per step through one layer: T times the products, at the price of accumulates."""
    record = simulate(no_norm(MLP([12, 7])), torch.ones(4, 1, 3, 4), duration=0.01)
    energy = energy_metrics(record)
    assert energy["energy/snn_nj"] == pytest.approx(10 * energy["energy/ann_nj"] * 0.9 / 4.6)
