"""Evaluates the time-to-first-spike network on the test set, beside the original network in float64."""

import copy
import dataclasses
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn

from respike.callbacks.convert import converted
from respike.callbacks.log import log_metrics
from respike.callbacks.simulate_rate import write_csv
from respike.convert.exact.ttfs_net import TTFSNet
from respike.metrics.energy import ttfs_energy
from respike.metrics.ttfs import agreement_metrics, disagreements, ttfs_metrics
from respike.simulate.ttfs.record import LayerCounts, TTFSRecord
from respike.simulate.ttfs.settings import TTFSSettings
from respike.system.distributed import gather, rank, share

PART = 1 << 27  # bytes of images, float64, that are in memory at a time
log = logging.getLogger(__name__)


class SimulateTTFS(Callback):
    """At the end of the test, after `Convert`: evaluates every test image, part by part, writes disagreements.csv, logs.

    simulate: (snn, images, index=..., progress=...) -> TTFSRecord, a partial of `simulate_ttfs`. A class is read once, at the
    network's latency, so that there is no accuracy over time and no curves.csv.
    """

    def __init__(self, simulate: Callable[..., TTFSRecord]):
        self.simulate = simulate
        self.record: TTFSRecord | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse, before any training, settings that cannot be simulated."""
        known = {field.name for field in dataclasses.fields(TTFSSettings)}
        TTFSSettings(**{name: value for name, value in self.simulate.keywords.items() if name in known})

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate, measure, write and log."""
        data = trainer.datamodule
        labels = data.labels("test")
        self.record, relu, seconds = self._evaluated(converted(trainer), pl_module, data)
        if rank() > 0:
            return
        write_csv(
            Path(trainer.default_root_dir, "disagreements.csv"),
            ["index", "label", "ann", "snn"],
            disagreements(self.record, labels, relu),
        )
        metrics = agreement_metrics(self.record, labels, relu) | ttfs_metrics(self.record) | ttfs_energy(self.record)
        log_metrics(trainer, metrics | {"time/simulate_s": seconds})
        log.info("%s", summary(self.record, metrics))

    def _evaluated(
        self, snn: TTFSNet, pl_module: LightningModule, data: LightningDataModule
    ) -> tuple[TTFSRecord, Tensor, float]:
        """The record of all test images, the outputs (B, C) of the original network, and the seconds that the first took.

        Of several ranks each evaluates its share.
        """
        index, pixels = data.index["test"], data.images.test_images
        mine = share(len(index))
        original = copy.deepcopy(pl_module.net).double().eval()
        size = max(1, PART // (8 * pixels[0].numel()))
        records, outputs, seconds = [], [], 0.0
        for chosen in index[mine.start : mine.stop].split(size) if len(mine) else ():
            images = pixels[chosen].to(pl_module.device)
            start = time.perf_counter()
            records.append(self.simulate(snn, images, index=chosen, progress=rank() == 0))
            seconds += time.perf_counter() - start
            outputs.append(_outputs(original, images))
        parts = [part for part in gather((records, outputs, seconds)) if part[0]]
        record = TTFSRecord.merge([record for part in parts for record in part[0]])
        return record, torch.cat([output for part in parts for output in part[1]]), max(part[2] for part in parts)


def _outputs(net: nn.Module, images: Tensor, size: int = 100) -> Tensor:
    """Outputs float64 (B, C) for uint8 images (B, ...)."""
    with torch.inference_mode():
        return torch.cat([net((part.float() / 255).double()).cpu() for part in images.split(size)])


def summary(record: TTFSRecord, metrics: dict[str, float]) -> str:
    """What came out, in a line: agreement, how it is proved, how long it takes. Shares are rounded down: 100 % is all."""
    hidden = sum(record.counts.values(), LayerCounts())
    left = hidden.pairs - hidden.certified
    proved = math.floor(1e6 * metrics["ttfs/certified"]) / 1e4
    return (
        f"agreement {round(metrics['snn/agreement'] * record.images):,} of {record.images:,}, "
        f"{proved:.6g} % certified by the bound{f' (all but {left:,} pairs)' if left else ''}, "
        f"{hidden.early:,} early crossings, latency {record.latency:.2f}, accuracy {100 * metrics['snn/test_acc']:.2f} %"
    )
