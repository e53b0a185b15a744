"""The networks of the benchmark, trained as `respike.train` trains them: the same configs, the same kept stages."""

from pathlib import Path

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from respike.bench.workload import Work
from respike.runs.compose import compose_run
from respike.system.messages import quiet_libraries
from respike.training.fit import check_fit, fit_once


def work_config(experiment: str, outputs: Path, overrides: tuple[str, ...] = ()) -> DictConfig:
    """The experiment's config as `respike.train` composes it, without loggers."""
    places = [f"paths.run={outputs}/bench", f"paths.outputs={outputs}", f"name={experiment}", "logger=none"]
    return compose_run([f"experiment={experiment}", *places, *overrides])


def start_training(cfg: DictConfig) -> tuple[pl.LightningModule, pl.LightningDataModule]:
    """The module and the data of a config, as a training starts with them."""
    quiet_libraries()
    pl.seed_everything(cfg.seed, verbose=False)
    data = instantiate(cfg.data)
    data.setup()
    module = instantiate(cfg.lit, net=instantiate(cfg.model))
    check_fit(module.net, data)
    return module, data


def make_work(cfg: DictConfig) -> Work:
    """Train (once, as respike.train does: the same stage), normalize and gather what the contenders need.

    The authors' CNN loop lets the output layer start one step late; no other library has that, so nobody does it here.
    """
    module, data = start_training(cfg)
    fit_once(cfg, instantiate(cfg.trainer, logger=False, enable_progress_bar=False), module, data)
    module.eval()
    images = (x for x, _, _ in data.batches("train", 500))
    with torch.no_grad():
        snn = instantiate(cfg.convert)(module.net, images)
    chosen = data.index["test"]
    return Work(
        name=cfg.name,
        snn=snn,
        images=data.images.test_images[chosen],
        labels=data.labels("test"),
        settings={"duration": cfg.simulate.duration, "start_at_zero": cfg.simulate.start_at_zero},
        data=data.images.name,
        reduced="; ".join(data.reductions()),
    )
