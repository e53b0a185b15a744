"""Spikes per image and neuron, rates in Hz, by hand."""

import pytest
import torch

from respike.convert import no_norm
from respike.metrics.activity import activity_metrics, firing_rates, spikes_per_image
from respike.networks.mlp import MLP
from respike.neurons.encode import Current, Rate
from respike.neurons.integrate_fire import IntegrateFire
from respike.simulate import SpikeRecord, simulate


def test_spikes_per_image_add_up_over_steps_and_leave_the_input_out(hand_made):
    assert spikes_per_image(hand_made()).tolist() == [0, 2, 5, 8]


def test_rates_are_spikes_per_neuron_and_second(hand_made):
    """2 images, 2 ms: 18 input spikes of 6 pixels, 10 of 4 neurons, 6 of 3."""
    assert firing_rates(hand_made()) == pytest.approx(
        {"input": 18 / 2 / 6 / 0.002, "hidden": 10 / 2 / 4 / 0.002, "output": 6 / 2 / 3 / 0.002}
    )


def test_all_activity_metrics(hand_made):
    assert activity_metrics(hand_made()) == pytest.approx(
        {
            "snn/spikes_per_image": 8,
            "snn/spikes_per_neuron": 8 / 7,
            "snn/synops_per_image": (72 + 30) / 2,
            "snn/rate/input": 750,
            "snn/rate/hidden": 625,
            "snn/rate/output": 500,
        }
    )


def test_the_rate_of_a_white_image_is_that_of_its_coding():
    """250 Hz, within binomial bounds; and a neuron that fires at each step of 2 ms fires at 500 Hz."""
    net = MLP([100, 3])
    net[1].weight.data.fill_(1.0)
    record = simulate(no_norm(net), torch.ones(50, 1, 10, 10), encode=Rate(250.0), dt=0.002, duration=0.04)
    rates = firing_rates(record)
    draws = 50 * 100 * 20
    assert rates["input"] == pytest.approx(250, abs=500 * 5 * (0.25 / draws) ** 0.5)
    assert rates["linear1"] == pytest.approx(500)


def test_an_analog_input_has_no_rate():
    record = simulate(no_norm(MLP([4, 3])), torch.rand(2, 1, 2, 2), encode=Current(), duration=0.003)
    assert "snn/rate/input" not in activity_metrics(record)


def test_numbers_of_merged_parts_are_means_over_all_images():
    torch.manual_seed(0)
    snn, images, index = no_norm(MLP([9, 6, 3])), torch.rand(7, 1, 3, 3), torch.arange(7)
    settings = {"weight_bits": 8, "neuron": IntegrateFire(0.25), "duration": 0.01}
    parts = [simulate(snn, images[i], index=index[i], **settings) for i in (slice(2), slice(2, 7))]
    whole = activity_metrics(SpikeRecord.merge(parts))
    assert whole == pytest.approx(activity_metrics(simulate(snn, images, index=index, **settings)))
    for name, value in whole.items():
        assert value == pytest.approx((2 * activity_metrics(parts[0])[name] + 5 * activity_metrics(parts[1])[name]) / 7)
