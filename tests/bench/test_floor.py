"""The floor is the time of the products of all steps and of nothing else."""

import pytest
import torch

from respike.bench.floor import floor, macs, products
from respike.convert import no_norm
from respike.networks.diehl_cnn import DiehlCNN
from respike.networks.mlp import MLP


def test_multiply_accumulates_of_the_published_networks_counted_by_hand():
    image = torch.Size((1, 28, 28))
    assert macs(no_norm(MLP([784, 1200, 1200, 10])), image) == 784 * 1200 + 1200 * 1200 + 1200 * 10
    first, second, output = 12 * 24 * 24 * 25, 64 * 8 * 8 * 12 * 25, 64 * 4 * 4 * 10
    assert macs(no_norm(DiehlCNN()), image) == first + second + output


def test_pools_are_not_among_the_products_wherever_they_stand(draw_workload):
    for wiring, shape in (("cnn", (1, 9, 12)), ("pools", (2, 12, 14))):
        found = products(draw_workload(wiring).snn, torch.Size(shape))
        assert {type(module) for module, _ in found} <= {torch.nn.Linear, torch.nn.Conv2d}
        for module, given in found:
            module(torch.zeros(1, *given))


def test_the_floor_is_of_all_steps_of_ten_thousand_images(saved_workload, monkeypatch):
    monkeypatch.setattr("respike.bench.floor._per_row", lambda *given: 1e-6 * given[3])  # slower in larger batches
    answer = floor(saved_workload, rows=500, repeats=2)
    assert answer["macs"] == 12 * 9 + 9 * 8 + 8 * 7 + 7 * 5
    assert answer["fp32"] == answer["bf16"] == pytest.approx(100e-6 * 20 * 10_000)
    assert answer["fp32_rows"] == 100


def test_both_precisions_can_be_timed_here(saved_workload):
    answer = floor(saved_workload, rows=500, repeats=2)
    assert answer["fp32"] > 0 and answer["bf16"] > 0
