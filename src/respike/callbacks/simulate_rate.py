"""Simulates the converted rate-coded network on the test set."""

import logging
import time
from functools import partial
from pathlib import Path

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from respike.callbacks.convert import conversion, converted, converter
from respike.callbacks.energy import energy_of_run, macs_by_layer, quantized_accuracies
from respike.callbacks.log import log_curve, log_metrics
from respike.callbacks.relu_pass import relu_pass
from respike.callbacks.simulate_test_set import simulate_test_set
from respike.convert import RateSNN
from respike.convert.calibration import first_images
from respike.convert.rate.operations import Anatomy, dissect
from respike.convert.rate.wiring import wiring_of
from respike.metrics.accuracy import accuracy_metrics, correct_share, disagreements, is_at_chance
from respike.metrics.activity import activity_metrics, spikes_per_image, synops_per_image
from respike.metrics.energy import EnergyModel, energy_metrics
from respike.metrics.operations import step_operations
from respike.metrics.representation import rate_correlations, unevenness_metrics
from respike.neurons.integrate_fire import SOFT, IntegrateFire
from respike.simulate.connections import network_connections
from respike.simulate.rate.program import pools, synapse_paths
from respike.simulate.rate.settings import Settings
from respike.simulate.record import SpikeRecord
from respike.system.distributed import rank
from respike.system.files import write_csv
from respike.training.trainer import data_of

log = logging.getLogger(__name__)


class SimulateRate(Callback):
    """At the end of the test, after `Convert`: simulates every test image, writes curves.csv and disagreements.csv, logs.

    simulate: (snn, images, index=..., progress=...) -> SpikeRecord, a partial of `respike.simulate.rate.layerwise.simulate`.
    energy: the model by which operations.csv, the counts of each layer, becomes energy; None measures neither.
    """

    record: SpikeRecord  # of all test images, set by on_test_end
    columns: dict[str, list[float]]  # of curves.csv, set by on_test_end
    correlations: dict[
        str, float
    ]  # by layer, of rates after all steps and activations of a few images; set by on_test_end

    def __init__(self, simulate: partial[SpikeRecord], energy: EnergyModel | None = None):
        self.simulate, self.energy = simulate, energy

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Raise InputError, before any training, for settings that cannot be simulated."""
        Settings.of(self.simulate).warn_if_unusual()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Simulate, measure, write and log."""
        data, folder = data_of(trainer), Path(trainer.default_root_dir)
        labels = data.labels("test")
        start = time.perf_counter()
        self.record = simulate_test_set(self.simulate, converted(trainer, RateSNN), data, pl_module.device)
        seconds = time.perf_counter() - start
        relu = relu_pass(trainer, pl_module)
        ann = relu.outputs.argmax(1)
        self.columns = curve(self.record, labels, ann)
        # on every rank: they meet in these
        anatomy = _anatomy(trainer, pl_module)
        self.correlations, uneven = _representation(trainer, pl_module, anatomy, Settings.of(self.simulate))
        energy = self._energy(trainer, pl_module, anatomy, relu.macs) if self.energy else {}
        if rank() > 0:
            return
        write_csv(folder / "curves.csv", self.columns)
        snn = self.record.predicted[-1].long()
        write_csv(folder / "disagreements.csv", disagreements(self.record.index, labels, ann, snn))
        log_curve(trainer, "sim", self.columns)
        measured = accuracy_metrics(self.record, labels, ann)
        log_metrics(
            trainer,
            measured
            | activity_metrics(self.record)
            | energy_metrics(self.record)
            | energy
            | {f"snn/correlation/{layer}": value for layer, value in self.correlations.items()}
            | uneven
            | {"time/simulate_s": seconds},
        )
        accuracies = measured["snn/test_acc"], measured["ann/test_acc"]
        if is_at_chance(*accuracies, labels):
            log.warning(
                "the spiking network classifies %.1f %% of the test images, near chance, and the ReLU network %.1f %%; type %s",
                *(100 * share for share in accuracies), self._what_to_change(trainer),
            )  # fmt: skip

    def _energy(
        self, trainer: Trainer, pl_module: LightningModule, anatomy: Anatomy | None, counts: dict[str, int]
    ) -> dict[str, float]:
        """The metrics of the energy model, and accuracies of the ReLU networks that it compares with."""
        assert self.energy is not None
        snn, data, settings = converted(trainer, RateSNN), data_of(trainer), Settings.of(self.simulate)
        layer_of = (
            {one.name: one.layer or one.into[0] for one in anatomy.operations if one.layer or one.into}
            if anatomy
            else {}
        )
        operations = step_operations(
            self.record,
            network_connections(synapse_paths(snn), torch.Size(data.input_shape), pools(snn)),
            biased=[name for name, layer in snn.layers.items() if layer.bias is not None],
            leaky=not isinstance(settings.neuron, IntegrateFire),
            effective=macs_by_layer(counts, layer_of, self.record.images),
        )
        accuracies = quantized_accuracies(trainer, pl_module, self.energy, operations)
        return accuracies | energy_of_run(trainer, self.energy, operations)

    def _what_to_change(self, trainer: Trainer) -> str:
        """What departs from the settings that keep deep networks accurate; if nothing does, a longer simulation."""
        snn, method = converted(trainer, RateSNN), conversion(trainer)
        settings = Settings.of(self.simulate)
        hard = isinstance(settings.neuron, IntegrateFire) and (settings.neuron.reset, settings.neuron.start) != (
            SOFT.reset,
            SOFT.start,
        )
        by_layer = not any(isinstance(scale, Tensor) for scale in snn.scales.values())
        advice = {
            "neuron=soft": hard,
            "encode=current": not settings.encode.analog,
            "convert=percentile": method not in ("percentile_norm", "qcfs_thresholds"),
            "convert.scale=channel": by_layer and method != "qcfs_thresholds",
            "convert.readout=current": snn.readout != "current",
        }
        typed = [line for line, differs in advice.items() if differs]
        return " ".join(typed) or f"simulate.duration={4 * settings.duration:g}"


def _anatomy(trainer: Trainer, pl_module: LightningModule) -> Anatomy | None:
    """How the network was converted; None for a conversion by other layers than ours."""
    anatomy = dissect(pl_module.net, data_of(trainer).input_shape, **wiring_of(converter(trainer).convert))
    return anatomy if anatomy.node_of_layer.keys() == converted(trainer, RateSNN).layers.keys() else None


def _representation(
    trainer: Trainer, pl_module: LightningModule, anatomy: Anatomy | None, settings: Settings
) -> tuple[dict[str, float], dict[str, float]]:
    """How rates correlate with activations on the first test images, by layer, and the metrics of unevenness.

    {} and {} without an anatomy.
    """
    if anatomy is None:
        return {}, {}
    data = data_of(trainer)
    few, _ = first_images(data.images.test_images[data.index["test"][:8]])
    network = converted(trainer, RateSNN), anatomy.graph, anatomy.node_of_layer, few.to(pl_module.device)
    return rate_correlations(*network, **vars(settings)), unevenness_metrics(*network, **vars(settings))


def curve(record: SpikeRecord, labels: Tensor, ann: Tensor) -> dict[str, list[float]]:
    """The columns of curves.csv, one entry per step: step, time_ms, acc, agreement, and per image, from the first step on,
    spikes_per_image and synops_per_image."""
    assert record.times_ms is not None
    return {
        "step": list(range(1, record.steps + 1)),
        "time_ms": [round(t, 9) for t in record.times_ms.tolist()],
        "acc": correct_share(record, labels).tolist(),
        "agreement": correct_share(record, ann).tolist(),
        "spikes_per_image": spikes_per_image(record).tolist(),
        "synops_per_image": synops_per_image(record).tolist(),
    }
