"""Given the same input spikes, every library's network spikes as our reference does."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from respike.bench.isolated import resolve
from respike.bench.peers import drives
from respike.bench.plan import CONTENDERS
from respike.errors import InputError
from respike.neurons.encode import Rate
from respike.neurons.integrate_fire import IntegrateFire
from respike.simulate import simulate_stepwise

PEERS = [row for row in CONTENDERS if row.options is None]


class Replay:
    """Spikes (T, B, ...) drawn beforehand: all at once or, for probabilities of one step, step by step."""

    def __init__(self, spikes):
        self.spikes, self.step = spikes, -1

    def __call__(self, probability):
        if probability.shape == self.spikes.shape:
            return self.spikes
        self.step += 1
        return self.spikes[self.step]


def peer(row, snn, steps):
    package = row.make.split(".")[-2]
    if package != "plain":
        pytest.importorskip(package, reason=f"{package} is in requirements-bench.txt only")
    return resolve(row.make)(snn, steps)


@pytest.mark.parametrize("row", PEERS, ids=lambda row: row.name)
@pytest.mark.parametrize("wiring", ["fc", "cnn"])
def test_output_spikes_are_those_of_the_reference(draw_workload, row, wiring):
    workload = draw_workload(wiring)
    run = peer(row, workload.snn, workload.steps)
    fire_above = row.fires == ">"  # a pool of four spikes comes to exactly 1: not the same network
    expected = simulate_stepwise(
        workload.snn,
        workload.images,
        weight_bits=None,
        neuron=IntegrateFire(fire_above=fire_above),
        **workload.settings,
    ).counts
    spikes = Rate(1000.0)(workload.images, torch.arange(20), torch.arange(workload.steps), 0.001, 0).float()
    assert int(expected.sum()) > 50
    with torch.no_grad():
        for _ in range(2):  # the second batch starts from rest again
            assert torch.equal(run(workload.images, Replay(spikes)).int(), expected)


def test_firing_at_or_above_the_threshold_matters_where_pools_are(draw_workload):
    counts = [
        simulate_stepwise(
            workload.snn,
            workload.images,
            weight_bits=None,
            neuron=IntegrateFire(fire_above=fire_above),
            **workload.settings,
        ).counts
        for workload in [draw_workload("cnn")]
        for fire_above in (False, True)
    ]
    assert not torch.equal(*counts)


def test_a_network_with_branches_is_refused_by_name(draw_workload):
    with pytest.raises(InputError, match="chains of layers only"):
        drives(draw_workload("projection").snn)


def test_a_run_of_the_tests_names_the_peers_that_are_missing():
    missing = [name for name in ("norse", "snntorch") if importlib.util.find_spec(name) is None]
    if not missing:
        pytest.skip("all libraries are installed")
    chosen = ["-n", "0", "-p", "no:cacheprovider", __file__, "-k", "reference and fc and (Norse or snn)"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *chosen],
        capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout
    assert "peer equivalence not run" in ran.stdout and f"not installed: {', '.join(missing)};" in ran.stdout
