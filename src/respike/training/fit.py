"""The training stage: train a module, or load the weights of an equal earlier training; resume an interrupted one."""

import contextlib
import copy
import errno
import hashlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

from respike.data.datamodule import ImageDataModule
from respike.errors import InputError, explain
from respike.layers.neuron_layer import NeuronLayer
from respike.networks.copying import eval_copy
from respike.networks.init import measure_batch_norms
from respike.networks.qcfs import ACTIVATION, ACTIVATIONS, start_thresholds, with_qcfs
from respike.networks.spike_times import SpikeTimes, has_spike_times
from respike.networks.standardize import standardized
from respike.networks.state_dicts import give_state_dict, not_finite, read_checkpoint, state_dict_of
from respike.system.cache import Stage, cached, code_hash, network_code, network_key
from respike.system.distributed import broadcast, rank
from respike.system.files import read_csv
from respike.training.checkpoints import AtomicCheckpoints, resume_from
from respike.training.divergence import StopIfDiverged
from respike.training.early_stopping import EarlyStoppingSettings
from respike.training.history import EpochHistory
from respike.training.layer_activity import LayerActivity
from respike.training.trainer import callbacks_of

log = logging.getLogger(__name__)

IRRELEVANT = {  # settings that do not change the weights
    "data": ("root", "test_size", "eval_batch_size"),
    "trainer": (
        "default_root_dir",
        "enable_progress_bar",
        "enable_model_summary",
        "log_every_n_steps",
        "num_sanity_val_steps",
    ),
}
NORM_IMAGES = 256  # on which the batch norms of random weights are measured
MEASURED = 256  # images on which thresholds and intervals are measured before a training
RUN_WEIGHTS = "a run keeps its weights in its folder, as checkpoints/ann.pt or weights.pt"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def untrained(cfg: DictConfig, data: ImageDataModule) -> LightningModule:
    """The module of a config and its network, behind the standardization of the data, initialized or read from model.path."""
    return instantiate(cfg.lit, net=standardized(make_network(cfg.model), data.mean, data.std))


def make_network(model: DictConfig) -> torch.nn.Module:
    """The network of a config's block `model`, with the activation that it names in place of ReLUs.

    Raises InputError for another activation than those of ACTIVATIONS, and for a network whose ReLUs cannot be replaced.
    """
    settings = {name: model.get(name, default) for name, default in ACTIVATION.items()}
    if settings["activation"] not in ACTIVATIONS:
        raise InputError(
            f"model.activation={settings['activation']}: unknown, choose model.activation={' or '.join(ACTIVATIONS)}"
        )
    own = copy.deepcopy(model)  # below the same config, for its interpolations
    with open_dict(own):
        for name in ACTIVATION:
            own.pop(name, None)
    target = own.get("_target_")
    try:
        net = instantiate(own)
    except InstantiationException as error:
        if explain(error) is not None or error.__cause__ is None or "in call to target" not in str(error):
            raise
        cause = error.__cause__
        reason = " ".join(str(cause).split()) or "no message"
        raise InputError(
            f"model._target_={target}: it raised {type(cause).__name__} ({reason}) when it was made"
        ) from error
    if not isinstance(net, torch.nn.Module):
        raise InputError(f"model._target_={target}: it returned {type(net).__name__}; a torch.nn.Module is needed")
    return with_qcfs(net, settings["levels"], settings["threshold"]) if settings["activation"] == "qcfs" else net


def fit_key(cfg: DictConfig, data: ImageDataModule, net: torch.nn.Module) -> dict[str, Any]:
    """Everything that determines the trained weights: data, network, recipe, trainer, seed, initial weights, source code."""
    resolved = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(resolved, dict)
    groups = {
        group: {name: value for name, value in resolved[group].items() if name not in IRRELEVANT.get(group, ())}
        for group in ("data", "model", "lit", "trainer")
    }
    start = resolved.get("ckpt_path") or resolved["model"].get("path")
    kind = "spiking training" if hasattr(net, "spiking_layers") else "training"
    kind = "spike-time training" if any(isinstance(module, SpikeTimes) for module in net.modules()) else kind
    return groups | {
        "images": data.images.sha256,
        "net": [repr(net), *network_code(net)],
        "early_stopping": EarlyStoppingSettings.from_config(cfg),
        "seed": resolved["seed"],
        "start": hashlib.sha256(Path(start).read_bytes()).hexdigest() if start else None,
        **({"start of": network_key(net)["weights"]} if resolved.get("start") else {}),
        "source": code_hash(kind),
    }


def fit_once(cfg: DictConfig, trainer: Trainer, module: LightningModule, data: ImageDataModule) -> Stage:
    """Train the module, or load the weights of an equal earlier training, under cfg.paths.stages.

    The stage's folder holds model.ckpt and history.csv. Raises InputError for settings that need validation images if
    there are none, for a network of neurons without a derivative, for a training that diverges, and if the disk is full.
    """
    early_stopping = EarlyStoppingSettings.from_config(cfg)
    early_stopping.check(data)
    check_neurons(module.net)

    def make(folder: Path) -> float:
        return _fit(trainer, module, data, folder, early_stopping)

    def load(folder: Path) -> None:
        load_stage(module, folder)

    _, stage = cached(Path(cfg.paths.stages), fit_key(cfg, data, module.net), make, load)
    return stage


def check_neurons(net: torch.nn.Module) -> None:
    """Raise InputError if the network has neurons whose spikes have no derivative."""
    for layer in net.modules():
        if isinstance(layer, NeuronLayer) and not layer.neuron.differentiable:
            raise InputError(
                f"neuron={type(layer.neuron).__name__}: its spikes have no surrogate gradient, so the network cannot be "
                "trained; type neuron=lif"
            )


def check_fit(net: torch.nn.Module, data: ImageDataModule) -> None:
    """Raise InputError if the network does not take these images, or has fewer outputs than there are classes."""
    try:
        with torch.no_grad():
            outputs = eval_copy(net)(torch.zeros(1, *data.input_shape))
    except Exception as error:  # of any network
        channels = next((m.in_channels for m in net.modules() if isinstance(m, torch.nn.Conv2d)), data.input_shape[0])
        if channels != data.input_shape[0]:
            raise InputError(
                f"the network takes images of {channels} channels, those of {data.images.name} have {data.input_shape[0]}; "
                f"type data.dataset.channels={channels} for a folder of images, or another data= or model="
            ) from error
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(
            f"the network does not take images of shape {data.input_shape} ({reason}); change model or data"
        ) from error
    if outputs.ndim != 2 or outputs.shape[1] < data.num_classes:
        raise InputError(
            f"the network returns {tuple(outputs.shape)} for one image, but the data has {data.num_classes} classes"
        )
    if outputs.shape[1] > data.num_classes:
        log.warning(
            "the network has %d outputs, the data %d classes: output 0 is taken for the first class, and so on",
            outputs.shape[1], data.num_classes,
        )  # fmt: skip


def check_loss(module: LightningModule, data: ImageDataModule) -> None:
    """Raise InputError if the loss does not take outputs (B, classes) and labels (B,), or returns anything but a number."""
    outputs, labels = torch.zeros(2, data.num_classes), torch.arange(2) % data.num_classes
    try:
        with torch.no_grad():
            loss = module.loss(outputs, labels)
        reason = "" if isinstance(loss, torch.Tensor) and loss.numel() == 1 else f"it returns {type(loss).__name__}"
    except Exception as error:  # of any callable
        reason = " ".join(str(error).split())
    if reason:
        name = getattr(module.loss, "__name__", None) or getattr(getattr(module.loss, "func", None), "__name__", "it")
        raise InputError(
            f"recipe.loss: {name} gives no loss for outputs (B, classes) and labels (B,) ({reason}); "
            "type recipe.loss._target_=torch.nn.functional.cross_entropy, or the name of such a function"
        )


def give_weights(cfg: DictConfig, trainer: Trainer, module: LightningModule, data: ImageDataModule) -> Stage | None:
    """Give the module its weights: those of cfg.ckpt_path, of a training, or those it was built with.

    Returns the stage of the training; None without one. Raises InputError for train=false without weights, for weights that
    hold nan or inf, and for a training of no epochs.
    """
    prepare = getattr(module, "prepare", None)  # of a module that is trained in spike time
    if prepare and cfg.ckpt_path and has_spike_times(_read_weights(cfg.ckpt_path)[0]):
        prepare(_first_images(data))
    if cfg.ckpt_path:
        load_weights(module, cfg.ckpt_path)
    elif has_random_weights(cfg):
        if not cfg.get("random_weights"):
            raise InputError(f"train=false without weights: give them as ckpt_path=FILE; {RUN_WEIGHTS}")
        log.warning(
            "RANDOM WEIGHTS: no model.path and no ckpt_path is given, so accuracies mean nothing; batch norms are measured on "
            "%d training images", min(NORM_IMAGES, len(data.index["train"])),
        )  # fmt: skip
        images = data.batches("train", min(32, data.eval_batch_size), first=NORM_IMAGES)
        measure_batch_norms(module.net, (batch for batch, _, _ in images))
    broken = not_finite(module.net, module.net.state_dict())
    if broken is not None:
        raise InputError(
            f"the network's {broken} holds nan or inf, so it computes nothing; type another ckpt_path or model.path"
        )
    if prepare:
        prepare(_first_images(data))
    if not cfg.train:
        return None
    if cfg.recipe.epochs == 0:
        raise InputError(
            "recipe.epochs=0: this recipe does not train; type train=false, or a recipe, as in recipe=custom"
        )
    q = cfg.model.get("threshold_q")
    if q is not None and cfg.model.activation == "qcfs" and not cfg.ckpt_path:
        start_thresholds(module.net, _first_images(data), q)
    return fit_once(cfg, trainer, module, data)


def _first_images(data: ImageDataModule) -> Tensor:
    """The first MEASURED training images."""
    return next(data.batches("train", MEASURED, first=MEASURED))[0]


def start_from(module: LightningModule, trained: torch.nn.Module, experiment: str) -> None:
    """Give the module's network the weights of a network that an experiment trained. Raises InputError for another one."""
    give_state_dict(module.net, trained.state_dict(), f"start={experiment}")


def has_random_weights(cfg: DictConfig) -> bool:
    """Whether a run without training has no weights, from a file or set by a user's class."""
    if cfg.train or cfg.ckpt_path or cfg.get("start"):
        return False
    if "path" in cfg.model:
        return cfg.model.path is None
    return cfg.recipe.epochs > 0 and cfg.model._target_.startswith("respike.")


def fit_metrics(cfg: DictConfig, stage: Stage, kind: str) -> dict[str, float]:
    """Seconds of a training, whether it was cached, and <kind>/val_acc of the kept weights where it was measured."""
    times = {"time/fit_s": stage.seconds, "time/fit_was_cached": float(not stage.fresh)}
    kept = EarlyStoppingSettings.from_config(cfg).kept_epoch(stage.folder / "history.csv")
    return times | ({f"{kind}/val_acc": kept["val_acc"]} if "val_acc" in kept else {})


def _fit(
    trainer: Trainer,
    module: LightningModule,
    data: ImageDataModule,
    folder: Path,
    early_stopping: EarlyStoppingSettings,
) -> float:
    """Train, from the last finished epoch in `folder` if there is one. Returns seconds, with those before an interruption."""
    history = EpochHistory(folder / "history.csv")
    last = ModelCheckpoint(dirpath=folder, filename="last", save_on_train_epoch_end=True, enable_version_counter=False)
    # `last` is called last: it saves the state of the other callbacks after their hooks have run
    callbacks: list[Callback] = [StopIfDiverged(), history, *early_stopping.callbacks(folder), last]
    if hasattr(module.net, "spiking_layers"):
        callbacks.insert(0, LayerActivity())
    needed = ("best.ckpt",) if early_stopping.keep == "best" else ()
    checkpoint = broadcast(resume_from(folder, needed) if rank() == 0 else folder / "last.ckpt")
    trainer.strategy.checkpoint_io = AtomicCheckpoints()
    callbacks_of(trainer).extend(callbacks)
    start = time.perf_counter()
    with _full_disk_is_one_line(folder), interruptible(trainer):
        trainer.fit(module, data, ckpt_path=str(checkpoint) if checkpoint and checkpoint.is_file() else None)
        for callback in callbacks:
            callbacks_of(trainer).remove(callback)
        if early_stopping.keep == "best":
            load_weights(module, folder / "best.ckpt")
        trainer.save_checkpoint(folder / "model.ckpt", weights_only=True)
        if rank() == 0:
            history.write()
            for file in ("last.ckpt", "last.ckpt.damaged", "best.ckpt"):
                (folder / file).unlink(missing_ok=True)
    return history.earlier + time.perf_counter() - start


@contextlib.contextmanager
def _full_disk_is_one_line(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise InputError(
            f"{folder.parent} cannot take the training ({error.strerror}): make room, or type paths.stages=FOLDER; finished "
            "epochs are kept, the same command continues"
        ) from error


@contextlib.contextmanager
def interruptible(trainer: Trainer) -> Iterator[None]:
    """Raise KeyboardInterrupt on Ctrl-C; Lightning would call sys.exit(1)."""
    try:
        yield
    except SystemExit as exit:
        if trainer.interrupted:
            raise KeyboardInterrupt from exit
        raise


def load_weights(module: LightningModule, path: str | Path) -> None:
    """Load the weights of `module.net` from a checkpoint or a state dict, of respike, Lightning or others.

    Raises InputError for a file that is missing, unreadable, or of another network, and for weights with nan or inf.
    """
    _set_weights(module, _read_weights(path)[0], path)


def load_stage(module: LightningModule, folder: Path) -> None:
    """Load the weights of a finished training. Raises InputError, before the module is changed, if a file is damaged."""
    weights, epochs = _read_weights(folder / "model.ckpt")
    history = folder / "history.csv"
    try:
        whole = history.read_bytes().endswith(b"\n") and read_csv(history)["epoch"].tolist() == [*range(1, epochs + 1)]
    except (OSError, ValueError, KeyError):
        whole = False
    if not whole:
        raise InputError(f"{history}: not the {epochs} epochs of its model.ckpt")
    _set_weights(module, weights, folder / "model.ckpt")


def _read_weights(path: str | Path) -> tuple[dict[str, Any], int]:
    """The network's state dict in a file, and the number of epochs in a Lightning checkpoint, else 0."""
    content = read_checkpoint(path, "ckpt_path", RUN_WEIGHTS)
    epochs = content.get("epoch", 0)
    return state_dict_of(content, f"ckpt_path={path}"), epochs if isinstance(epochs, int) else 0


def _set_weights(module: LightningModule, weights: dict[str, Any], path: str | Path) -> None:
    """Raises InputError, before the network is changed, for weights with nan or inf, or of another network."""
    give_state_dict(module.net, weights, f"ckpt_path={path}")
