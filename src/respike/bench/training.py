"""Training speed. Runs in a process of its own.

ReLU networks: images per second of a recipe, in the Lightning module and in a plain loop.
The directly trained ResNet-19: time and memory of training steps, with this package's backends and with SpikingJelly.
"""

import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import nn

from respike.bench.experiment import experiment_config, start_training
from respike.bench.isolated import peak_mib
from respike.bench.timing import spread
from respike.data.datamodule import ImageDataModule
from respike.data.pixels import to_unit
from respike.networks.resnet19 import SpikingResNet19


class Clock(pl.Callback):
    """Records the time at the end of every training batch."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        """Lightning's hook."""
        self.ends.append(time.perf_counter())


def lightning(
    experiment: str, outputs: str, overrides: list[str], batches: int, warm_up: int, precision: str = "32-true"
) -> dict[str, Any]:
    """Train `batches` batches of an experiment's recipe in Lightning; the time counts after the first `warm_up`.

    Returns images per second, and the test accuracy after those batches.
    """
    more = (*overrides, f"trainer.precision={precision}", "trainer.max_epochs=1")
    cfg = experiment_config(experiment, Path(outputs), more)
    module, data = start_training(cfg)
    clock = Clock()
    chosen = {"logger": False, "enable_progress_bar": False, "limit_train_batches": batches, "callbacks": [clock]}
    instantiate(cfg.trainer, **chosen).fit(module, data)
    return _measures(cfg, clock.ends, warm_up) | {"accuracy": _accuracy(module.net, data)}


def loop(experiment: str, outputs: str, overrides: list[str], batches: int, warm_up: int) -> dict[str, Any]:
    """`lightning` as a plain loop over a tensor in memory, without metrics during training."""
    cfg = experiment_config(experiment, Path(outputs), tuple(overrides))
    module, data = start_training(cfg)
    net, loss = module.net.train(), module.loss
    images, labels = to_unit(data.images.train_images[:]), data.images.train_labels
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
def _accuracy(net: nn.Module, data: ImageDataModule) -> float:
    net.eval()
    right = [net(x).argmax(1) == y for x, y, _ in data.batches("test", 500)]
    return torch.cat(right).double().mean().item()


def our_resnet19(
    width_mult: float, batch: int, timed: int, backend: str, bf16: bool = False, warm_up: int = 2
) -> dict[str, Any]:
    """`time_steps` of this package's ResNet-19. backend: "auto" (fused) or "torch" (plain modules)."""
    return time_steps(SpikingResNet19(width_mult=width_mult, backend=backend), batch, timed, bf16, warm_up)


def spikingjelly_resnet19(
    width_mult: float, batch: int, timed: int, bf16: bool = False, warm_up: int = 2
) -> dict[str, Any]:
    """`time_steps` of the same network built from SpikingJelly's layers."""
    from respike.bench.peers.spikingjelly import resnet19

    return time_steps(resnet19(SpikingResNet19(width_mult=width_mult)), batch, timed, bf16, warm_up)


def time_steps(net: nn.Module, batch: int, timed: int, bf16: bool, warm_up: int) -> dict[str, Any]:
    """Time `timed` training steps with Adam on one batch of random images. bf16: under autocast.

    Returns `spread` of the times, and `mib_per_image`: the growth of the process's peak memory from a batch of one image to a
    whole batch, divided by the added images.
    """
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
    images, labels = torch.randn(batch, 1, 28, 28), torch.randint(10, (batch,))

    def step(count: int) -> float:
        start = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(net(images[:count]), labels[:count])
        loss.backward()
        optimizer.step()
        return time.perf_counter() - start

    step(1)
    single = peak_mib()
    for _ in range(warm_up):
        step(batch)
    times = [step(batch) for _ in range(timed)]
    grown = max(0.0, peak_mib() - single) / max(1, batch - 1)  # Linux counts pages to within a few dozen
    return {"batch": batch, "images": batch, "mib_per_image": grown} | spread(times, batch)
