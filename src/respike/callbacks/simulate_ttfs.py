"""Evaluates the time-to-first-spike network on the test set and compares it with the original network in float64."""

import logging
import math
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import nn

from respike.callbacks.convert import converted
from respike.callbacks.energy import energy_of_run, macs_by_layer, quantized_accuracies
from respike.callbacks.log import log_metrics
from respike.callbacks.relu_pass import relu_pass
from respike.callbacks.simulate_test_set import simulate_test_set
from respike.convert import TTFSNet
from respike.convert.exact.ttfs_net import TTFSLayer, TTFSOutput
from respike.convert.graph.trace import trace
from respike.metrics.accuracy import disagreements
from respike.metrics.energy import EnergyModel, ttfs_energy
from respike.metrics.operations import time_operations
from respike.metrics.ttfs import agreement_metrics, ttfs_metrics
from respike.networks.copying import eval_copy
from respike.simulate.ttfs.program import network_connections
from respike.simulate.ttfs.record import LayerCounts, TTFSRecord
from respike.simulate.ttfs.settings import TTFSSettings
from respike.system.distributed import rank
from respike.system.files import write_csv
from respike.training.trainer import data_of

PART_BYTES = 1 << 27  # of float64 images that are in memory at a time
log = logging.getLogger(__name__)


class SimulateTTFS(Callback):
    """At the end of the test, after `Convert`: evaluates every test image, writes disagreements.csv, logs.

    simulate: (snn, images, index=..., progress=...) -> TTFSRecord, a partial of `simulate_ttfs`. The outputs are read once,
    at the network's latency, so that there is no accuracy over time and no curves.csv. energy: the model by which
    operations.csv, the counts of each layer, becomes energy; None measures neither.
    """

    record: TTFSRecord  # of all test images, set by on_test_end

    def __init__(self, simulate: partial[TTFSRecord], energy: EnergyModel | None = None):
        self.simulate, self.energy = simulate, energy

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Raise InputError, before any training, for settings that cannot be simulated."""
        TTFSSettings.of(self.simulate)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate, measure, write and log."""
        data, snn, settings = data_of(trainer), converted(trainer, TTFSNet), TTFSSettings.of(self.simulate)
        for name, layer in snn.layers.items():
            if isinstance(layer, TTFSLayer):
                settings.refuse_wide_noise(f"layer '{name}'", float(layer.t_max - layer.t_min))
        labels = data.labels("test")
        part_size = max(1, PART_BYTES // (8 * data.images.test_images[0].numel()))
        start = time.perf_counter()
        self.record = simulate_test_set(self.simulate, snn, data, pl_module.device, part_size)
        seconds = time.perf_counter() - start
        passed = relu_pass(trainer, pl_module, double=True)
        relu = passed.outputs
        energy = self._energy(trainer, pl_module, passed.macs) if self.energy else {}
        if rank() > 0:
            return
        table = disagreements(self.record.index, labels, relu.argmax(1), self.record.predicted)
        write_csv(Path(trainer.default_root_dir, "disagreements.csv"), table)
        metrics = agreement_metrics(self.record, labels, relu) | ttfs_metrics(self.record) | ttfs_energy(self.record)
        log_metrics(trainer, metrics | energy | {"time/simulate_s": seconds})
        log.info("%s", summary(self.record, metrics))

    def _energy(self, trainer: Trainer, pl_module: LightningModule, counts: dict[str, int]) -> dict[str, float]:
        """The metrics of the energy model, and accuracies of the ReLU networks that it compares with."""
        assert self.energy is not None
        snn, data = converted(trainer, TTFSNet), data_of(trainer)
        connections = network_connections(snn, torch.Size(data.input_shape))
        layer_of = layer_of_modules(pl_module.net, data.input_shape, snn.layers)
        operations = time_operations(
            self.record,
            {name: _weights(layer) for name, layer in snn.layers.items()},
            {name: macs for name, (_, macs) in connections.items()},
            levels=self.simulate.keywords.get("levels"),
            effective=macs_by_layer(counts, layer_of, self.record.images),
        )
        accuracies = quantized_accuracies(trainer, pl_module, self.energy, operations)
        return accuracies | energy_of_run(trainer, self.energy, operations)


def layer_of_modules(net: nn.Module, input_shape: Sequence[int], layers: Iterable[str]) -> dict[str, str]:
    """The layer of a mapped network that holds the weights of a module, by its path; without modules called several times.

    The mapping keeps the name of one weighted layer in front of each ReLU; others whose values are added there belong to it.
    """
    graph, calls = trace(eval_copy(net), input_shape)

    def relu_behind(name: str) -> str:
        while graph.nodes[name].kind != "relu" and len(graph.readers(name)) == 1:
            name = graph.readers(name)[0].name
        return name

    layer_in_front = {relu_behind(layer): layer for layer in layers if layer in graph.nodes}
    weighted = [(path, name) for path, name in calls if name and graph.nodes[name].kind in ("conv", "linear")]
    times = Counter(path for path, _ in weighted)
    found = {path: layer_in_front.get(relu_behind(name)) for path, name in weighted if times[path] == 1}
    return {path: layer for path, layer in found.items() if layer is not None}


def _weights(layer: nn.Module) -> int:
    """Weights that a layer stores: those of synapses, of which an average pool shares each."""
    assert isinstance(layer, TTFSLayer | TTFSOutput)
    return layer.synapses.weight.numel() if layer.macs is None else round(float(layer.macs.double().sum()))


def summary(record: TTFSRecord, metrics: dict[str, float]) -> str:
    """One line: agreement, share certified by the bound, latency, accuracy. Shares are rounded down: 100 % means all."""
    hidden = sum(record.counts.values(), LayerCounts())
    left = hidden.pairs - hidden.certified
    certified = math.floor(1e6 * metrics["ttfs/certified"]) / 1e4
    return (
        f"agreement {round(metrics['snn/agreement'] * record.images):,} of {record.images:,}, "
        f"{certified:.6g} % certified by the bound{f' (all but {left:,} pairs)' if left else ''}, "
        f"{hidden.early:,} early crossings, latency {record.latency:.2f}, accuracy {100 * metrics['snn/test_acc']:.2f} %"
    )
