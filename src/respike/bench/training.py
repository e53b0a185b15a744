"""Training images per second of a recipe, in ours and in a plain loop. Runs in a process of its own."""

import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import nn

from respike.bench.prepare import start_training, work_config
from respike.bench.timing import spread
from respike.data.pixels import to_unit


class Clock(pl.Callback):
    """The time at the end of every training batch."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        """Lightning's hook."""
        self.ends.append(time.perf_counter())


def lightning(
    experiment: str, outputs: str, overrides: list[str], batches: int, warm_up: int, precision: str = "32-true"
) -> dict[str, Any]:
    """`batches` batches of the experiment's recipe in our Lightning module, timed after the first `warm_up`.

    Returns images per second and the test accuracy after those batches.
    """
    cfg = work_config(experiment, Path(outputs), (*overrides, f"trainer.precision={precision}", "trainer.max_epochs=1"))
    module, data = start_training(cfg)
    clock = Clock()
    chosen = {"logger": False, "enable_progress_bar": False, "limit_train_batches": batches, "callbacks": [clock]}
    instantiate(cfg.trainer, **chosen).fit(module, data)
    return _measures(cfg, clock.ends, warm_up) | {"accuracy": _accuracy(module.net, data)}


def loop(experiment: str, outputs: str, overrides: list[str], batches: int, warm_up: int) -> dict[str, Any]:
    """The same recipe as a loop over a tensor in memory; same measures. No metric is kept while it trains."""
    cfg = work_config(experiment, Path(outputs), tuple(overrides))
    module, data = start_training(cfg)
    net, loss = module.net.train(), module.loss
    images, labels = to_unit(data.images.train_images), data.images.train_labels
    order = data.index["train"][torch.randperm(len(data.index["train"]))]
    parts = order.split(cfg.data.batch_size)[:batches]
    optimizer = module.make_optimizer(net.parameters())
    scheduler = module.make_scheduler(optimizer, len(parts)) if module.make_scheduler else None
    transform, ends = data.train_transform, []
    for part in parts:
        x, y = images[part], labels[part]
        if transform is not None:
            x = transform(x)
        optimizer.zero_grad()
        loss(net(x), y).backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        ends.append(time.perf_counter())
    return _measures(cfg, ends, warm_up) | {"accuracy": _accuracy(net, data)}


def _measures(cfg: DictConfig, ends: list[float], warm_up: int) -> dict[str, Any]:
    images = (len(ends) - 1 - warm_up) * cfg.data.batch_size
    return {"batch": cfg.data.batch_size, "images": images} | spread([ends[-1] - ends[warm_up]], images)


@torch.no_grad()
def _accuracy(net: nn.Module, data: pl.LightningDataModule) -> float:
    net.eval()
    right = [net(x).argmax(1) == y for x, y, _ in data.batches("test", 500)]
    return torch.cat(right).double().mean().item()
