"""Metrics of a TTFSRecord, on numbers counted by hand."""

import pytest
import torch

from respike.metrics.energy import ttfs_energy
from respike.metrics.ttfs import agreement_metrics, ttfs_metrics
from respike.simulate.ttfs.record import LayerCounts, TTFSRecord

LOGITS = torch.tensor([[0.0, 2.0], [1.0, 0.0], [3.0, 1.0], [0.0, 0.5]], dtype=torch.float64)
RECORD = TTFSRecord(
    index=torch.arange(4),
    logits=LOGITS,
    inputs=LayerCounts(pairs=40, active=10),
    counts={"a": LayerCounts(80, 60, 4, 20), "b": LayerCounts(20, 20, 0, 10)},
    synops={"a": 100, "b": 60, "c": 40},
    latency=7.5,
    ann_macs=99,
)


def test_shares_are_of_all_hidden_pairs_and_spikes_of_all_neurons_that_can_spike():
    metrics = ttfs_metrics(RECORD)
    assert metrics["ttfs/certified"] == 0.8 and metrics["ttfs/early"] == 0.04
    assert metrics["ttfs/active"] == 0.3 and metrics["ttfs/spikes_per_neuron"] == 40 / 140
    assert metrics["snn/spikes_per_image"] == 30 / 4
    assert metrics["ttfs/latency"] == 7.5 and metrics["snn/synops_per_image"] == 50
    assert metrics["ttfs/certified/a"] == 0.75 and metrics["ttfs/active/b"] == 0.5 and metrics["ttfs/early/a"] == 0.05


def test_agreement_is_with_the_relu_network_and_accuracy_with_the_labels():
    relu = LOGITS.clone()
    relu[3] = torch.tensor([0.75, 0.5])
    metrics = agreement_metrics(RECORD, torch.tensor([1, 0, 1, 1]), relu)
    assert metrics["snn/agreement"] == 0.75 and metrics["ttfs/largest_logit_difference"] == 0.75
    assert metrics["snn/test_acc"] == 0.75 and metrics["ann/test_acc"] == 0.5 and metrics["snn/acc_drop"] == -0.25


def test_spikes_cost_an_accumulate_per_synapse_and_the_relu_network_its_products():
    energy = ttfs_energy(RECORD)
    assert energy["energy/snn_nj"] == pytest.approx(50 * 0.9e-3) and energy["energy/ann_nj"] == pytest.approx(
        99 * 4.6e-3
    )
