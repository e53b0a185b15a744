"""Simulates the converted rate-coded network on the test set."""

import dataclasses
import logging
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from respike.callbacks.convert import Convert, conversion, converted
from respike.callbacks.log import log_curve, log_metrics
from respike.callbacks.simulate_test_set import simulate_test_set
from respike.convert import RateSNN
from respike.convert.calibration import first_images
from respike.convert.rate.operations import dissect
from respike.convert.rate.wiring import wiring_of
from respike.data.datamodule import ImageDataModule
from respike.metrics.accuracy import accuracy_metrics, correct_share, disagreements, is_at_chance
from respike.metrics.activity import activity_metrics, spikes_per_image, synops_per_image
from respike.metrics.energy import energy_metrics
from respike.metrics.representation import rate_correlations, unevenness_metrics
from respike.neurons.integrate_fire import SOFT, IntegrateFire
from respike.simulate.rate.settings import Settings
from respike.simulate.record import SpikeRecord
from respike.system.distributed import all_gather, rank
from respike.system.files import write_csv
from respike.training.trainer import callbacks_of, data_of

log = logging.getLogger(__name__)


class SimulateRate(Callback):
    """At the end of the test, after `Convert`: simulates every test image, writes curves.csv and disagreements.csv, logs.

    simulate: (snn, images, index=..., progress=...) -> SpikeRecord, a partial of `respike.simulate.rate.layerwise.simulate`.
    """

    record: SpikeRecord  # of all test images, set by on_test_end
    columns: dict[str, list[float]]  # of curves.csv, set by on_test_end
    correlations: dict[
        str, float
    ]  # by layer, of rates after all steps and activations on a few images, set by on_test_end

    def __init__(self, simulate: partial[SpikeRecord]):
        self.simulate = simulate

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Raise InputError, before any training, for settings that cannot be simulated."""
        self._settings().warn_if_unusual()

    def _settings(self) -> Settings:
        known = {field.name for field in dataclasses.fields(Settings)}
        return Settings(**{name: value for name, value in self.simulate.keywords.items() if name in known})

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Simulate, measure, write and log."""
        data, folder = data_of(trainer), Path(trainer.default_root_dir)
        labels = data.labels("test")
        start = time.perf_counter()
        self.record = simulate_test_set(self.simulate, converted(trainer, RateSNN), data, pl_module.device)
        seconds = time.perf_counter() - start
        ann = _predicted_classes(pl_module, data)
        self.columns = curve(self.record, labels, ann)
        # on every rank: they meet in it
        self.correlations, uneven = _representation(trainer, pl_module, self.simulate.keywords)
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

    def _what_to_change(self, trainer: Trainer) -> str:
        """What departs from the settings that keep deep networks accurate; if nothing does, a longer simulation."""
        snn, method = converted(trainer, RateSNN), conversion(trainer)
        settings = self._settings()
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


def _predicted_classes(pl_module: LightningModule, data: ImageDataModule) -> Tensor:
    """The ReLU network's classes for all test images, (B,), on every rank."""
    batches = data.batches("test", data.eval_batch_size, shared=True)
    classes = [pl_module(images.to(pl_module.device)).argmax(1).cpu() for images, _, _ in batches]
    return torch.cat([part for gathered in all_gather(classes) for part in gathered])


def _representation(
    trainer: Trainer, pl_module: LightningModule, settings: Mapping[str, Any]
) -> tuple[dict[str, float], dict[str, float]]:
    """How rates correlate with activations on the first test images, by layer, and the metrics of unevenness.

    {} and {} for a conversion by other layers than ours.
    """
    data, snn = data_of(trainer), converted(trainer, RateSNN)
    few, _ = first_images(data.images.test_images[data.index["test"][:8]])
    few = few.to(pl_module.device)
    convert = next(callback.convert for callback in callbacks_of(trainer) if isinstance(callback, Convert))
    anatomy = dissect(pl_module.net, few.shape[1:], **wiring_of(convert))
    if anatomy.node_of_layer.keys() != snn.layers.keys():
        return {}, {}
    network = snn, anatomy.graph, anatomy.node_of_layer, few
    return rate_correlations(*network, **settings), unevenness_metrics(*network, **settings)


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
