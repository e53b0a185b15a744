"""The network of an experiment for the benchmark: trained and converted, or in the state in which a training starts.

Processes that only simulate do not import this module, which takes seconds.
"""

from pathlib import Path

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from respike.bench.workload import Workload
from respike.data.datamodule import ImageDataModule
from respike.runs.compose import compose_run
from respike.system.messages import quiet_libraries
from respike.training.fit import check_fit, fit_once, untrained


def make_workload(cfg: DictConfig) -> Workload:
    """Train the network of a config (once, as respike.train does) and normalize it.

    In the authors' simulation of the CNN the output layer starts one step late. No other library has this; it is left out.
    """
    module, data = start_training(cfg)
    fit_once(cfg, instantiate(cfg.trainer, logger=False, enable_progress_bar=False), module, data)
    module.eval()
    images = (x for x, _, _ in data.batches("train", 500))
    with torch.no_grad():
        snn = instantiate(cfg.convert)(module.net, images)
    return Workload(
        name=cfg.name,
        snn=snn,
        images=data.images.test_images[data.index["test"]],
        labels=data.labels("test"),
        settings={"duration": cfg.simulate.duration, "start_at_zero": cfg.simulate.start_at_zero},
        data=data.images.name,
        reduced="; ".join(data.reductions()),
    )


def experiment_config(experiment: str, outputs: Path, overrides: tuple[str, ...] = ()) -> DictConfig:
    """The config of an experiment as `respike.train` composes it, without loggers."""
    places = [f"paths.run={outputs}/bench", f"paths.outputs={outputs}", f"name={experiment}", "logger=none"]
    return compose_run([f"experiment={experiment}", *places, *overrides])


def start_training(cfg: DictConfig) -> tuple[pl.LightningModule, ImageDataModule]:
    """The Lightning module and the data of a config, in the state in which a training starts."""
    quiet_libraries()
    pl.seed_everything(cfg.seed, verbose=False)
    data = instantiate(cfg.data)
    data.setup()
    module = untrained(cfg, data)
    check_fit(module.net, data)
    return module, data
