"""The authors' network under the authors' protocol reaches the numbers measured with their own code."""

import math

import pytest
import torch

from respike.convert import data_norm
from respike.data.datasets import mnist
from respike.metrics.accuracy import correct_share
from respike.networks.matlab_files import load_cnn
from respike.simulate import simulate

CURVE = {
    10: 0.1194,
    12: 0.4490,
    15: 0.9278,
    18: 0.9782,
    20: 0.9841,
    25: 0.9876,
    30: 0.9891,
    40: 0.9899,
    50: 0.9906,
    60: 0.9911,
}
SPIKES = {
    "input": 6337,
    "conv1": 10062,
    "avgpool1": 2206,
    "conv2": 3344,
    "avgpool2": 684,
    "linear1": 16,
}  # per image at 60 ms
IMAGES = 500


@pytest.fixture(scope="module")
def case(published):
    """The converted network, its record over every 20th test image, and their labels."""
    net = load_cnn(published("diehl2015", "cnn_99.14.mat"))
    data = mnist(published("MNIST", "raw").parents[1], download=False)
    snn = data_norm(net, data.test_images, output_layer=False)
    index = torch.arange(0, 10_000, 10_000 // IMAGES)
    record = simulate(
        snn, data.test_images[index], index=index, duration=0.06, start_at_zero=True, drop_first_output=True
    )
    return snn, record, data.test_labels[index]


def test_the_largest_activations_are_the_published_ones(case):
    snn, _, _ = case
    assert [round(snn.scales[name], 3) for name in ("conv1", "conv2")] == [5.995, 5.727]


def test_the_first_kernel_decides_nothing_in_the_published_network(published):
    """authors_code looks for the largest weight in the first kernel only; here activations are larger than any weight."""
    net = load_cnn(published("diehl2015", "cnn_99.14.mat"))
    data = mnist(published("MNIST", "raw").parents[1], download=False)
    ours, theirs = (
        data_norm(net, data.test_images, output_layer=False, convention=name).factors
        for name in ("lambda", "authors_code")
    )
    assert theirs == pytest.approx(ours, rel=1e-12)


def test_accuracy_rises_as_in_the_published_curve(case):
    """Binomial bounds of 500 images, beside the 1.5 and 0.2 points between seeds before and after 20 ms."""
    _, record, labels = case
    accuracy = correct_share(record, labels)
    assert record.times_ms.tolist() == pytest.approx(list(range(61)))
    for ms, expected in CURVE.items():
        deviation = math.sqrt(expected * (1 - expected) / IMAGES)
        assert abs(float(accuracy[ms]) - expected) <= 4 * deviation + (0.015 if ms < 20 else 0.002), f"{ms} ms"


def test_spikes_per_image_are_the_published_ones(case):
    """The brightness of 500 images lies within 5 % of that of all."""
    _, record, _ = case
    for name, expected in SPIKES.items():
        assert int(record.spikes[name].sum()) / IMAGES == pytest.approx(expected, rel=0.05), name
