"""Runs a directly trained spiking network on the test set."""

import time
from collections.abc import Callable
from pathlib import Path

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from respike.callbacks.energy import energy_of_run
from respike.callbacks.log import log_curve, log_metrics, log_network
from respike.callbacks.simulate_test_set import simulate_test_set
from respike.errors import InputError
from respike.metrics.accuracy import correct_share, spiking_accuracy
from respike.metrics.activity import activities_over_steps, activity_metrics, spikes_per_image
from respike.metrics.energy import EnergyModel, energy_metrics
from respike.metrics.operations import step_operations
from respike.networks.copying import device_of
from respike.simulate.connections import network_connections
from respike.simulate.record import SpikeRecord
from respike.system.distributed import rank
from respike.system.files import write_csv
from respike.training.trainer import data_of

NEEDED = ("spikes", "spiking_layers", "synapses", "folded")


class SimulateDirect(Callback):
    """At the end of the test: runs every test image through the network, writes curves.csv and activity.csv, logs.

    `snn` is the network in float32 with its batch norms folded. curves.csv holds the accuracy after each step, activity.csv
    each layer's spikes per neuron at each step.
    simulate: (snn, images, index=..., progress=...) -> SpikeRecord, a partial of `simulate_direct`. keep_networks: save the
    weights in the run's folder, as checkpoints/weights.pt, and with the logger. energy: the model by which operations.csv, the
    counts of each layer, becomes energy; None measures neither. There is no ReLU network whose zeros could be counted.
    """

    # set by on_test_end
    snn: nn.Module
    record: SpikeRecord  # of all test images
    columns: dict[str, list[float]]  # of curves.csv

    def __init__(
        self, simulate: Callable[..., SpikeRecord], keep_networks: bool = True, energy: EnergyModel | None = None
    ):
        self.simulate, self.keep_networks, self.energy = simulate, keep_networks, energy

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Raise InputError, before any training, for a network without the methods used here, or impossible settings."""
        net = pl_module.net
        if missing := [name for name in NEEDED if not hasattr(net, name)]:
            raise InputError(
                f"{type(net).__name__} has no {', '.join(missing)}: a network for method=direct has the methods "
                f"{', '.join(NEEDED)}, as respike.networks.resnet19.SpikingResNet19 has"
            )
        self.simulate(net.folded().float(), torch.zeros(1, *data_of(trainer).input_shape, device=device_of(net)))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Run, measure, write and log."""
        data, folder = data_of(trainer), Path(trainer.default_root_dir)
        labels = data.labels("test")
        self.snn = pl_module.net.folded().float()
        start = time.perf_counter()
        self.record = simulate_test_set(self.simulate, self.snn, data, pl_module.device)
        seconds = time.perf_counter() - start
        self.columns = curve(self.record, labels)
        if rank() > 0:
            return
        layers = {"step": self.columns["step"]} | activities_over_steps(self.record)
        write_csv(folder / "curves.csv", self.columns)
        write_csv(folder / "activity.csv", layers)
        log_curve(trainer, "sim", self.columns)
        log_curve(trainer, "activity", layers)
        log_metrics(
            trainer,
            spiking_accuracy(self.record, labels)
            | activity_metrics(self.record)
            | energy_metrics(self.record)
            | (self._energy(trainer, self.energy) if self.energy else {})
            | {"time/simulate_s": seconds},
        )
        if self.keep_networks:
            log_network(trainer, "weights", pl_module.net.state_dict())

    def _energy(self, trainer: Trainer, model: EnergyModel) -> dict[str, float]:
        """The metrics of the energy model."""
        paths = self.snn.synapses()
        biased = [
            name
            for name, incoming in paths.items()
            if any(getattr(module, "bias", None) is not None for _, path in incoming for module in path)
        ]
        connections = network_connections(paths, torch.Size(data_of(trainer).input_shape))
        operations = step_operations(self.record, connections, biased=biased, leaky=True)
        return energy_of_run(trainer, model, operations)


def curve(record: SpikeRecord, labels: Tensor) -> dict[str, list[float]]:
    """The columns of curves.csv, one entry per step: step, acc, spikes_per_image (cumulative)."""
    return {
        "step": list(range(1, record.steps + 1)),
        "acc": correct_share(record, labels).tolist(),
        "spikes_per_image": spikes_per_image(record).tolist(),
    }
