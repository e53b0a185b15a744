"""The files of a run's folder, and what makes a run a reduced one."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import LightningDataModule, Trainer

from respike.system.distributed import rank
from respike.system.files import write_json

LIMITS = ("limit_train_batches", "limit_test_batches", "fast_dev_run", "overfit_batches", "max_steps", "max_time")
# what may be typed beside an experiment without making it another one
NEUTRAL = (
    "experiment",
    "name",
    "seed",
    "train",
    "logger",
    "paths",
    "hydra",
    "budget_min",
    "paper",
    "trainer",
    "threads",
    "sweep",
    "sweep_name",
    "search",
)
NEUTRAL_KEYS = (  # sizes are reductions
    "data.root",
    "model.path",
    "data.train_size",
    "data.test_size",
    "data.dataset.train_files",
    "data.dataset.test_files",
)


class RunFolder:
    """cfg.paths.run: config.yaml at the start, metrics.json at the very end; without the latter a run is unfinished.

    Of several ranks the first alone writes.
    """

    def __init__(self, cfg: DictConfig):
        self.path = Path(cfg.paths.run)
        if rank() > 0:
            return
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / "metrics.json").unlink(missing_ok=True)
        resolved = OmegaConf.to_yaml(cfg, resolve=True)
        (self.path / "config.yaml").write_text(resolved, encoding="utf-8")

    def keep_history(self, history: Path) -> None:
        """Copy the epochs of the training beside the results."""
        if history.is_file() and rank() == 0:
            shutil.copyfile(history, self.path / "training.csv")

    def finish(self, metrics: dict[str, Any], origin: dict[str, Any], trainer: Trainer) -> dict[str, Any]:
        """Write provenance.json, then metrics.json; returns the metrics."""
        for logger in trainer.loggers:
            logger.finalize("success")
        if rank() == 0:
            write_json(self.path / "provenance.json", origin)
            write_json(self.path / "metrics.json", metrics)
        return metrics


def changes(overrides: Sequence[str], published_on: str = "mnist") -> list[str]:
    """Those of the typed overrides that make a run another one than its experiment describes.

    published_on: the option of data= that is the experiment's own.
    """
    typed = [override.lstrip("+~") for override in overrides]
    return [
        override
        for override in typed
        if override.split("=")[0].split(".")[0].split("/")[0] not in NEUTRAL
        and not override.startswith(NEUTRAL_KEYS)
        and not override.startswith("recipe=")
        and override != f"data={published_on}"
    ]


def reductions(cfg: DictConfig, data: LightningDataModule) -> list[str]:
    """Why this run is smaller than the one its recipe describes, in words for tables; empty for a full run."""
    reasons = data.reductions()
    if cfg.train and cfg.trainer.max_epochs < cfg.recipe.epochs:
        reasons.append(f"{cfg.trainer.max_epochs} of {cfg.recipe.epochs} epochs")
    if cfg.train and cfg.recipe.get("reduced"):
        reasons.append(cfg.recipe.reduced)
    if cfg.model.get("width_mult", 1) < 1:
        reasons.append(f"narrow: {cfg.model.width_mult:g} of the width")
    reasons += [f"trainer.{name}={cfg.trainer[name]}" for name in LIMITS if cfg.trainer.get(name)]
    return reasons


def finished(cfg: DictConfig, folder: Path) -> bool:
    """Whether the folder holds this very run on these very images."""
    if not (folder / "metrics.json").is_file() or not (folder / "provenance.json").is_file():
        return False
    if (folder / "config.yaml").read_text(encoding="utf-8") != OmegaConf.to_yaml(cfg, resolve=True):
        return False
    origin = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    return origin["data"]["sha256"] == instantiate(cfg.data).images.sha256
