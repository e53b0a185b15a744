"""One run: config -> objects -> fit (once) -> test, where the callbacks convert, simulate and log.

python -m respike.train experiment=diehl_fc encode.max_rate=400
"""

import datetime
import logging
import os
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
import pytorch_lightning as pl
import wandb
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from respike.callbacks.log import RunMetrics, labels, log_metrics
from respike.errors import InputError, explain
from respike.runs.folder import RunFolder, changes, reductions
from respike.runs.sweep import run_job
from respike.system.distributed import rank
from respike.system.provenance import provenance
from respike.system.threads import meet, set_threads
from respike.training.early_stopping import Ending
from respike.training.fit import check_fit, fit_once, interruptible, load_weights

PACKAGED = Path(__file__).resolve().parent / "conf"  # of an installed wheel; a checkout has conf/ at its top level
CONF = PACKAGED if PACKAGED.is_dir() else PACKAGED.parents[2] / "conf"


def train(cfg: DictConfig, overrides: Sequence[str] = ()) -> dict[str, float | str]:
    """Run the experiment of a composed config in cfg.paths.run; returns what metrics.json holds.

    overrides: what was typed beside the experiment; a run whose settings they change is not held against the paper.
    Raises InputError for anything in the config, the data or the files that a person can mend.
    """
    quiet_libraries()
    set_threads(cfg.get("threads", "auto"))
    folder = RunFolder(cfg)
    try:
        return _train(cfg, folder, changes(overrides, cfg.protocol.data))
    finally:
        if wandb.run is not None:  # else the next run of this process would go on with it
            wandb.finish()


def _train(cfg: DictConfig, folder: RunFolder, changed: list[str]) -> dict[str, float | str]:
    start, started = time.perf_counter(), datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    pl.seed_everything(cfg.seed, verbose=False)
    data = instantiate(cfg.data)
    data.setup()
    module = instantiate(cfg.lit, net=instantiate(cfg.model))
    check_fit(module.net, data)
    facts = {
        "data": data.images.name,
        "reduced": "; ".join(reductions(cfg, data)),
        "changed": "; ".join(changed),
        "test_images": len(data.index["test"]),
    }
    metrics = RunMetrics()
    trainer = _trainer(cfg, metrics, facts)
    times = _weights(cfg, trainer, module, data, folder)
    tested = time.perf_counter()
    with interruptible(trainer):
        trainer.test(module, datamodule=data, verbose=False)
    inner = sum(metrics.values.get(f"time/{stage}_s", 0.0) for stage in ("convert", "simulate"))
    times["time/test_s"] = time.perf_counter() - tested - inner
    earlier = times.get("time/fit_s", 0.0) if times.get("time/fit_was_cached") else 0.0
    times["time/total_s"] = time.perf_counter() - start + earlier  # as if the training had not been had already
    log_metrics(trainer, times)
    seconds = {
        name[5:-2]: value for name, value in metrics.values.items() if name.startswith("time/") and name.endswith("_s")
    }
    device = trainer.strategy.root_device
    origin = provenance(data.images.name, data.images.sha256, cfg.seed, device, started) | {"time": seconds}
    return folder.finish(metrics.values | facts, origin, trainer)


def quiet_libraries() -> None:
    """Lightning's advertisements and hints on hardware not used are not about the run."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    if rank() > 0:  # what it would say, the first says too
        logging.getLogger("respike").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*treespec, LeafSpec.*")
    warnings.filterwarnings("ignore", message="The `srun` command is available")  # jobs reach Slurm by a Hydra launcher
    warnings.filterwarnings(
        "ignore", message=r"Found \d+ module\(s\) in eval mode"
    )  # Standardize, whose numbers are constants
    warnings.filterwarnings("ignore", message="The number of training batches .* is smaller than the logging interval")


def _trainer(cfg: DictConfig, metrics: RunMetrics, facts: dict[str, str | int]) -> pl.Trainer:
    callbacks = [instantiate(callback) for callback in cfg.callbacks.values() if callback]
    chosen = [instantiate(cfg.logger, **labels(cfg))] if cfg.logger else []
    for logger in chosen:
        logger.log_hyperparams(OmegaConf.to_container(cfg, resolve=True) | {"facts": facts})
    bar = cfg.trainer.enable_progress_bar and sys.stderr.isatty()  # elsewhere EpochHistory writes a line per epoch
    trainer = instantiate(cfg.trainer, callbacks=callbacks, logger=[*chosen, metrics], enable_progress_bar=bar)
    meet(trainer)
    return trainer


def _weights(
    cfg: DictConfig, trainer: pl.Trainer, module: pl.LightningModule, data: pl.LightningDataModule, folder: RunFolder
) -> dict[str, float]:
    """Give the module its weights: from a file, from training, or its own. Returns the seconds of a training,
    and the validation accuracy of the weights that are kept."""
    comes_trained = cfg.recipe.epochs == 0
    if cfg.ckpt_path:
        load_weights(module, cfg.ckpt_path)
    elif not cfg.train and not comes_trained and cfg.model._target_.startswith("respike."):
        raise InputError(
            "train=false without weights: give them as ckpt_path=FILE, a run keeps its own as checkpoints/ann.pt or weights.pt"
        )
    if not cfg.train:
        return {}
    if comes_trained:
        raise InputError("this network comes trained and has no recipe: type train=false")
    stage = fit_once(cfg, trainer, module, data)
    folder.keep_history(stage.folder / "history.csv")
    times = {"time/fit_s": stage.seconds, "time/fit_was_cached": float(not stage.fresh)}
    kept = Ending.of(cfg).kept_epoch(stage.folder / "history.csv")
    return times | ({f"{module.kind}/val_acc": kept["val_acc"]} if "val_acc" in kept else {})


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def main(cfg: DictConfig) -> Any:
    """Run one experiment; a mistake in the config is one line on stderr and status 1, or, in a sweep, one job's failure."""
    try:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            return run_job(train, cfg, HydraConfig.get().overrides.task)
        train(cfg, HydraConfig.get().overrides.task)
    except KeyboardInterrupt:
        print("respike: interrupted; finished epochs are kept, the same command goes on", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        line = explain(error)
        if line is None or os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        if rank() == 0:
            print(f"respike: {line}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
