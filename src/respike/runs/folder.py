"""The files of a run's folder, and the facts about a run that decide whether it is compared with the paper."""

import hashlib
import inspect
import json
import pkgutil
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.utils import get_method, instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Trainer

from respike.data.datamodule import ImageDataModule
from respike.runs.protocol import departures
from respike.system.cache import DAMAGE, code_hash, source_hash
from respike.system.distributed import rank
from respike.system.files import write_atomically, write_json
from respike.training.fit import has_random_weights

# Overrides that leave the measurement as it is, or are seen elsewhere.
UNMEASURED = (
    "experiment", "name", "seed", "logger", "paths", "hydra", "budget_min", "threads", "sweep", "sweep_name", "search",
)  # fmt: skip
LIMITS = ("limit_train_batches", "limit_test_batches", "fast_dev_run", "overfit_batches", "max_steps", "max_time")
# Packages whose code is known by the versions in provenance.json, or by `code_hash`; any other code is a user's own.
LIBRARIES = ("respike", "torch", "pytorch_lightning", "lightning", "torchvision", "wandb", "datetime", "hydra")


class RunFolder:
    """cfg.paths.run: config.yaml at the start, metrics.json at the very end; without the latter a run is unfinished.

    In a distributed job only rank 0 writes.
    """

    def __init__(self, cfg: DictConfig):
        self.path, self.code = Path(cfg.paths.run), run_code(cfg)
        if rank() > 0:
            return
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / "metrics.json").unlink(missing_ok=True)
        with write_atomically(self.path / "config.yaml") as temporary:  # in place of a link, not through it
            temporary.write_text(OmegaConf.to_yaml(cfg, resolve=True), encoding="utf-8")

    def keep_history(self, history: Path) -> None:
        """Copy the history of the training to training.csv."""
        if history.is_file() and rank() == 0:
            shutil.copyfile(history, self.path / "training.csv")

    def finish(self, metrics: dict[str, Any], origin: dict[str, Any], trainer: Trainer) -> dict[str, Any]:
        """Write provenance.json, with the seconds of every stage, then metrics.json; returns the metrics."""
        stages = [name for name in metrics if name.startswith("time/") and name.endswith("_s")]
        seconds = {name.removeprefix("time/").removesuffix("_s"): metrics[name] for name in stages}
        for logger in trainer.loggers:
            logger.finalize("success")
        if rank() == 0:
            write_json(self.path / "provenance.json", origin | {"code": self.code, "time": seconds})
            write_json(self.path / "metrics.json", metrics)
        return metrics


def run_facts(cfg: DictConfig, data: ImageDataModule, overrides: Sequence[str]) -> dict[str, str | int]:
    """The facts in metrics.json.

    Data set, why the run is reduced, what was typed, number of test images, images that calibrated, `departures`.
    """
    return {
        "data": data.images.name,
        "reduced": "; ".join(reductions(cfg, data)),
        "changed": "; ".join(changes(overrides)),
        "test_images": len(data.index["test"]),
        "calibrated_on": calibrated_on(cfg, data),
        **departures(cfg, data.images),
    }


def calibrated_on(cfg: DictConfig, data: ImageDataModule) -> str:
    """The images that gave the scales or ranges of the conversion, as "10,000 test images"; "" if there is none.

    A conversion that can do without images takes everything from the weights.
    """
    callback = cfg.callbacks.get("convert")
    if not callback or not cfg.get("convert"):
        return ""
    arguments = list(inspect.signature(get_method(cfg.convert._target_)).parameters.values())
    if len(arguments) > 1 and arguments[1].default is not inspect.Parameter.empty:
        return ""
    number = len(data.index[callback.calibrate_on][: callback.calibration_size])
    return f"{number:,} {'test' if callback.calibrate_on == 'test' else 'training'} images"


def changes(overrides: Sequence[str]) -> list[str]:
    """The typed overrides that may change what is measured: settings that a comparison shows, whatever determines them."""
    typed = [override.lstrip("+~") for override in overrides]
    return [override for override in typed if override.partition("=")[0].split(".")[0].split("/")[0] not in UNMEASURED]


def reductions(cfg: DictConfig, data: ImageDataModule) -> list[str]:
    """Why this run is smaller than the one its recipe describes, one reason each for the tables; empty for a full run."""
    reasons = data.reductions()
    if cfg.train and cfg.trainer.max_epochs < cfg.recipe.epochs:
        reasons.append(f"{cfg.trainer.max_epochs} of {cfg.recipe.epochs} epochs")
    if cfg.train and cfg.recipe.get("reduced"):
        reasons.append(cfg.recipe.reduced)
    if has_random_weights(cfg):
        reasons.append("random weights")
    if cfg.model.get("width_mult", 1) < 1:
        reasons.append(f"narrow: {cfg.model.width_mult:g} of the width")
    reasons += [f"trainer.{name}={cfg.trainer[name]}" for name in LIMITS if cfg.trainer.get(name)]
    return reasons


def run_code(cfg: DictConfig) -> str:
    """Hash of what decides a run's numbers beside config and images: code, a user's own included, and weights read from files.

    A module of a user is read as a file; what it imports in turn is not.
    """
    digest = hashlib.sha256(code_hash("run").encode())
    for target in sorted(_targets(OmegaConf.to_container(cfg, resolve=True))):
        if target.partition(".")[0] in LIBRARIES:
            continue
        try:
            digest.update(source_hash(pkgutil.resolve_name(target)).encode())
        except (ImportError, AttributeError, ValueError):
            continue  # who makes the object says what is wrong with the name
    for file in (OmegaConf.select(cfg, "ckpt_path"), OmegaConf.select(cfg, "model.path")):
        if file and Path(file).is_file():
            with open(file, "rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()


def _targets(node: Any) -> set[str]:
    """Every _target_ below a config."""
    if isinstance(node, dict):
        own = {str(node["_target_"])} if "_target_" in node else set()
        return own.union(*map(_targets, node.values()))
    return set().union(*map(_targets, node)) if isinstance(node, list) else set()


def finished(cfg: DictConfig, folder: Path) -> bool:
    """Whether the folder has a finished run with the same config and the same images, made by the same code."""
    try:
        json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        config = (folder / "config.yaml").read_text(encoding="utf-8")
        origin = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
        code, images = origin.get("code"), origin["data"]["sha256"]
    except DAMAGE:
        return False
    same = config == OmegaConf.to_yaml(cfg, resolve=True) and code == run_code(cfg)
    return same and images == instantiate(cfg.data).images.sha256
