"""Measures the accuracy of the trained ReLU network on its whole training set, once per network and training set."""

import json
from pathlib import Path

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from respike.callbacks.log import log_metrics
from respike.system.cache import code_hash, measured_once, network_key
from respike.system.distributed import all_gather
from respike.system.files import write_json
from respike.training.trainer import data_of


class TrainAccuracy(Callback):
    """At the end of the test: logs ann/train_acc. stages: folder in which earlier measurements are cached."""

    def __init__(self, stages: str | Path):
        self.stages = Path(stages)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure, or read the cached measurement, and log."""
        data = data_of(trainer)

        def measure() -> float:
            correct = torch.zeros(2, dtype=torch.int64)  # correct images, images
            with torch.inference_mode():
                for images, labels, _ in data.batches("train", data.eval_batch_size, shared=True):
                    predicted = pl_module(images.to(pl_module.device)).argmax(1).cpu()
                    correct += torch.tensor([int((predicted == labels).sum()), len(labels)])
            right, count = torch.stack(all_gather(correct)).sum(0).tolist()
            return right / count

        key = {"stage": "train_acc", "data": data.fingerprint("train"), "source": code_hash("train_acc")}
        accuracy, _, _ = measured_once(
            self.stages, key | network_key(pl_module.net), measure, write_accuracy, read_accuracy
        )
        log_metrics(trainer, {"ann/train_acc": accuracy})


def write_accuracy(accuracy: float, folder: Path) -> None:
    """Write a stage that holds one accuracy."""
    write_json(folder / "accuracy.json", accuracy)


def read_accuracy(folder: Path) -> float:
    """The accuracy in a stage. Raises ValueError for a file that was cut: the start of a number is a number too."""
    text = (folder / "accuracy.json").read_text(encoding="utf-8")
    accuracy = float(json.loads(text))
    if not text.endswith("\n") or not 0 <= accuracy <= 1:
        raise ValueError(f"{folder / 'accuracy.json'}: {text!r} is no whole accuracy")
    return accuracy
