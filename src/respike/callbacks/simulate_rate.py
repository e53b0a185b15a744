"""Simulates the converted network on the test set."""

import csv
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from respike.callbacks.convert import converted
from respike.callbacks.log import log_curve, log_metrics
from respike.convert.rate.rate_snn import RateSNN
from respike.metrics.accuracy import accuracy_metrics, correct_share, disagreements
from respike.metrics.activity import activity_metrics, spikes_per_image
from respike.metrics.energy import energy_metrics
from respike.simulate.rate.settings import Settings
from respike.simulate.record import SpikeRecord
from respike.system.distributed import gather, rank, share


class Simulate(Callback):
    """At the end of the test, after `Convert`: simulates every test image, writes curves.csv and disagreements.csv, logs.

    simulate: (snn, images, index=..., progress=...) -> SpikeRecord, a partial of `respike.simulate.rate.layerwise.simulate`.
    """

    def __init__(self, simulate: Callable[..., SpikeRecord]):
        self.simulate = simulate
        self.record: SpikeRecord | None = None
        self.columns: dict[str, list[float]] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse, before any training, settings that cannot be simulated."""
        known = {field.name for field in dataclasses.fields(Settings)}
        Settings(**{name: value for name, value in self.simulate.keywords.items() if name in known}).warn_if_unusual()

    def _record(self, snn: RateSNN, images: Tensor, index: Tensor, device: torch.device) -> SpikeRecord:
        """The record of all images. Of several ranks each simulates its share; on the grid nothing tells the cut."""
        mine = share(len(images))
        part = None
        if len(mine):
            chosen = slice(mine.start, mine.stop)
            part = self.simulate(snn, images[chosen].to(device), index=index[chosen], progress=rank() == 0)
        return SpikeRecord.merge([part for part in gather(part) if part is not None])

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Simulate, measure, write and log."""
        data = trainer.datamodule
        images, index, labels = data.images.test_images[data.index["test"]], data.index["test"], data.labels("test")
        start = time.perf_counter()
        self.record = self._record(converted(trainer), images, index, pl_module.device)
        seconds = time.perf_counter() - start
        batches = data.batches("test", 1000, shared=True)
        own = [pl_module(x.to(pl_module.device)).argmax(1).cpu() for x, _, _ in batches]
        ann = torch.cat([part for parts in gather(own) for part in parts])
        columns = self.columns = curve(self.record, labels, ann)
        if rank() > 0:
            return
        write_csv(Path(trainer.default_root_dir, "curves.csv"), list(columns), zip(*columns.values(), strict=True))
        write_csv(
            Path(trainer.default_root_dir, "disagreements.csv"),
            ["index", "label", "ann", "snn"],
            disagreements(self.record, labels, ann),
        )
        log_curve(trainer, "sim", columns)
        log_metrics(
            trainer,
            accuracy_metrics(self.record, labels, ann)
            | activity_metrics(self.record)
            | energy_metrics(self.record)
            | {"time/simulate_s": seconds},
        )


def curve(record: SpikeRecord, labels: Tensor, ann: Tensor) -> dict[str, list[float]]:
    """The columns of curves.csv, one entry per step: step, time_ms, acc, agreement, spikes_per_image (so far)."""
    return {
        "step": list(range(1, record.steps + 1)),
        "time_ms": [round(t, 9) for t in record.times_ms.tolist()],
        "acc": correct_share(record, labels).tolist(),
        "agreement": correct_share(record, ann).tolist(),
        "spikes_per_image": spikes_per_image(record).tolist(),
    }


def write_csv(path: Path, header: list[str], rows) -> None:
    """A csv file with a header line, written aside and renamed."""
    part = path.with_suffix(".part")
    with part.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    part.replace(path)
