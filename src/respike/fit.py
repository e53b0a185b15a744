"""The training stage: fit a module, keep its weights by content, resume what was interrupted."""

import hashlib
import inspect
import time
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

from respike.callbacks.history import EpochHistory
from respike.errors import InputError
from respike.stages import Stage, once

FIT_SETTINGS = (
    "max_epochs",
    "accelerator",
    "devices",
    "strategy",
    "precision",
    "gradient_clip_val",
    "accumulate_grad_batches",
)


def fit_key(cfg: DictConfig, data: LightningDataModule, net: torch.nn.Module) -> dict[str, Any]:
    """Everything that decides the trained weights: data, network (and its source), recipe, trainer, seed."""
    chosen = OmegaConf.to_container(cfg, resolve=True)
    return {
        "data": {name: value for name, value in chosen["data"].items() if name != "root"}
        | {"sha256": data.images.sha256},
        "model": chosen["model"],
        "net": [repr(net), _source_hash(net)],
        "lit": chosen["lit"],
        "trainer": {name: chosen["trainer"].get(name) for name in FIT_SETTINGS},
        "seed": chosen["seed"],
    }


def _source_hash(net: torch.nn.Module) -> str:
    try:
        return hashlib.sha256(inspect.getsource(inspect.getmodule(type(net))).encode()).hexdigest()
    except (OSError, TypeError):  # a class typed into a notebook or a shell has no file
        return ""


def fit_once(cfg: DictConfig, trainer: Trainer, module: LightningModule, data: LightningDataModule) -> Stage:
    """Train the module, or load the weights of an equal earlier training, under paths.stages."""

    def make(folder: Path) -> float:
        return _fit(trainer, module, data, folder)

    stage = once(Path(cfg.paths.stages), fit_key(cfg, data, module.net), make)
    load_weights(module, stage.folder / "model.ckpt")
    return stage


def _fit(trainer: Trainer, module: LightningModule, data: LightningDataModule, folder: Path) -> float:
    """Train, from the last finished epoch in `folder` if there is one. Returns seconds, earlier parts included."""
    history = EpochHistory(folder / "history.csv")
    last = ModelCheckpoint(dirpath=folder, filename="last", save_on_train_epoch_end=True, enable_version_counter=False)
    trainer.callbacks.extend([history, last])
    start, earlier = time.perf_counter(), history.seconds()
    try:
        trainer.fit(module, data, ckpt_path=str(folder / "last.ckpt") if (folder / "last.ckpt").is_file() else None)
    finally:
        trainer.callbacks.remove(history)
        trainer.callbacks.remove(last)
    if trainer.interrupted:
        raise KeyboardInterrupt
    trainer.save_checkpoint(folder / "model.ckpt", weights_only=True)
    (folder / "last.ckpt").unlink(missing_ok=True)
    return earlier + time.perf_counter() - start


def load_weights(module: LightningModule, path: str | Path) -> None:
    """Put weights into `module.net`: from a checkpoint of Lightning, or from a plain state dict of the network.

    Raises InputError for a file that is missing, unreadable, or of another network.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"ckpt_path={path}: no such file; a run keeps its weights in its folder, as checkpoints/ann.pt"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        weights = content.get("state_dict", content)
    except Exception as error:  # torch raises a different error for each way in which a file can be broken
        raise InputError(
            f"ckpt_path={path}: not a checkpoint, or a damaged one; give one that holds weights only or Lightning's"
        ) from error
    own = {name.removeprefix("net."): value for name, value in weights.items()}
    try:
        module.net.load_state_dict(own)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"ckpt_path={path}: the checkpoint is of another network ({reason})") from error
