"""Measures the finished ReLU network on its whole training set, once per network and training set."""

import json
import time
from pathlib import Path

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from respike.callbacks.log import log_metrics
from respike.system.cache import cached, network_key, source_hash
from respike.system.distributed import all_gather, rank


class TrainAccuracy(Callback):
    """At the end of the test: logs ann/train_acc. stages: folder of what was measured before."""

    def __init__(self, stages: str | Path):
        self.stages = Path(stages)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure or look up, and log."""
        data = trainer.datamodule

        def make(folder: Path) -> float:
            start, right, count = time.perf_counter(), 0, 0
            with torch.inference_mode():
                for images, labels, _ in data.batches("train", 1000, shared=True):
                    right += int((pl_module(images.to(pl_module.device)).argmax(1).cpu() == labels).sum())
                    count += len(labels)
            right, count = (sum(parts) for parts in zip(*all_gather((right, count)), strict=True))
            if rank() == 0:
                (folder / "accuracy.json").write_text(json.dumps(right / count))
            return time.perf_counter() - start

        key = {"stage": "train_acc", "data": data.fingerprint("train"), "source": source_hash("networks", "data")}
        stage = cached(self.stages, key | network_key(pl_module.net), make)
        log_metrics(trainer, {"ann/train_acc": json.loads((stage.folder / "accuracy.json").read_text())})
