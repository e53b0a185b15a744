"""A residual, max-pooled network on standardized pixels from config to files, by every rule of max-pools and both read-outs."""

import json
from functools import cache

import pytest
import torch
from torch import nn

from respike.errors import InputError
from respike.runs.compose import compose_run
from respike.train import train

RULES = ("count", "gate", "before_neuron", "average")
READOUTS = ("counts", "current")
STEPS = 24


class Net(nn.Module):
    """1x28x28 - 6c5/2 - max-pool - residual block of 6c3 and 6c3 - mean - 10."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 6, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(6)
        self.conv1, self.conv2 = (nn.Conv2d(6, 6, 3, padding=1) for _ in range(2))
        self.pool, self.relu, self.sum = nn.MaxPool2d(2), nn.ReLU(), nn.ReLU()
        self.mean, self.head = nn.AvgPool2d(2), nn.Linear(6 * 9, 10)

    def forward(self, x):
        x = (x - 0.13) / 0.31
        x = self.pool(self.relu(self.norm(self.stem(x))))  # 6x7x7
        x = self.sum(self.conv2(self.relu(self.conv1(x))) + x)
        return self.head(self.mean(x).flatten(1))


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """outcome(max_pool, readout, ...) -> (metrics, names of the figures) of one run; all share one training."""
    folder = tmp_path_factory.mktemp("cnn")

    @cache
    def run(max_pool, readout, *more):
        name = "-".join([max_pool, readout, *more]).replace("=", "_")
        network = ["model=custom", "recipe=custom", f"model._target_={__name__}.Net", "recipe.epochs=3"]
        data = ["+data.dataset.download=false", "data.train_size=3900", "data.test_size=100", "recipe.batch_size=25"]
        chosen = [f"convert.max_pool={max_pool}", f"convert.readout={readout}", f"simulate.duration={STEPS / 1000}"]
        places = [f"paths.run={folder / name}", f"paths.outputs={folder}", f"paths.data={folder / 'none'}"]
        figures = "callbacks.figures.film=false" if max_pool == "count" and not more else "callbacks.figures=null"
        rest = [
            "logger=none",
            "name=cnn",
            "callbacks.train_accuracy=null",
            "callbacks.convert.calibration_size=500",
            "convert.spiking_pools=true",
            figures,
        ]
        train(compose_run([*network, *data, *chosen, *places, *rest, *more]))
        metrics = json.loads((folder / name / "metrics.json").read_text())
        return metrics, {path.stem for path in (folder / name).glob("figures/*.png")}

    return run


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("max_pool", RULES)
def test_every_rule_and_readout_runs_and_its_numbers_agree(outcome, max_pool, readout):
    metrics, figures = outcome(max_pool, readout)
    assert metrics["ann/test_acc"] > 0.8
    rates = {name.removeprefix("snn/rate/"): rate for name, rate in metrics.items() if name.startswith("snn/rate/")}
    units = {"stem": 6 * 196, "conv1": 294, "sum": 294, "mean": 54, "head": 10, "pool": 294}
    if max_pool == "before_neuron":  # the neurons stand behind the pool
        units["stem"] = units.pop("pool")
    if readout == "current":
        del units["head"]
    assert rates.keys() == units.keys()
    spikes = {name: rate * units[name] * STEPS / 1000 for name, rate in rates.items()}
    assert metrics["snn/spikes_per_image"] == pytest.approx(sum(spikes.values()))
    if max_pool in ("count", "gate"):
        del units["pool"]  # no neurons
    fired = sum(spikes[name] for name in units)
    assert metrics["snn/spikes_per_neuron"] == pytest.approx(fired / sum(units.values()))
    first = 25 * 6 * 196 - 6 * border()  # products of the stem
    assert metrics["energy/snn_nj"] == pytest.approx(metrics["snn/synops_per_image"] * 0.9e-3 + first * STEPS * 4.6e-3)
    if figures:
        assert {"firing_rates", "output_currents" if readout == "current" else "output_spikes"} <= figures
        assert not {"output_currents", "output_spikes"} <= figures


def border():
    """Products of a 5x5 kernel of stride 2 with the padding of a 28x28 image."""
    inside = [sum(0 <= 2 * place + offset < 28 for offset in range(-2, 3)) for place in range(14)]
    return 25 * 196 - sum(inside) ** 2


def test_the_default_keeps_what_the_relu_network_knows(outcome):
    """The maximum is exact in the count rule; the average is another network."""
    agreement = {rule: outcome(rule, "current")[0]["snn/agreement"] for rule in RULES}
    assert agreement["count"] >= 0.93 and agreement["before_neuron"] >= 0.93
    assert agreement["count"] >= agreement["average"]


def test_how_many_images_are_simulated_at_a_time_changes_nothing(outcome):
    whole, parts = (outcome("count", "current", *more)[0] for more in ((), ("+simulate.chunk=30",)))
    same = [name for name in whole if name.startswith(("snn/", "energy/"))]
    assert {name: parts[name] for name in same} == {name: whole[name] for name in same}


def test_a_penalty_that_no_activation_would_feel_is_refused(outcome):
    with pytest.raises(
        InputError, match=r"recipe.activity_penalty=0.001: .* nn.ReLU modules, and the network has none"
    ):
        outcome("count", "current", "model.activation=qcfs", "convert=qcfs", "recipe.activity_penalty=0.001")


def test_a_network_that_ends_at_chance_says_what_to_change(outcome, caplog):
    with caplog.at_level("WARNING", "respike"):
        outcome("count", "current")
        assert not [line for line in caplog.messages if "near chance" in line]
        outcome(
            "count",
            "counts",
            "neuron=diehl",
            "encode=rate",
            "encode.max_rate=3",
            "convert=data_norm",
            "convert.scale=layer",
        )
    (line,) = [line for line in caplog.messages if "near chance" in line]
    assert line.endswith(
        "type neuron=soft encode=current convert=percentile convert.scale=channel convert.readout=current"
    )


def test_one_layer_read_by_its_current_has_neither_neurons_nor_spikes(tmp_path):
    layer = ["model=diehl_fc", "model.sizes=[784,10]", "recipe=custom", "recipe.dropout=0", "recipe.epochs=1"]
    data = ["+data.dataset.download=false", "data.train_size=200", "data.test_size=20", "logger=none", "name=one"]
    rest = ["callbacks.figures.film=false", "callbacks.train_accuracy=null"]
    metrics = train(compose_run([*layer, *data, *rest, f"paths.run={tmp_path / 'run'}", f"paths.outputs={tmp_path}"]))
    assert metrics["snn/agreement"] == 1 and metrics["snn/spikes_per_image"] == metrics["snn/spikes_per_neuron"] == 0
    assert metrics["energy/snn_nj"] == pytest.approx(40 * 7840 * 4.6e-3)
    assert torch.isfinite(torch.tensor([value for value in metrics.values() if isinstance(value, float)])).all()
