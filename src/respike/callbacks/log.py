"""Logging to whichever loggers a run has: numbers, curves over simulated steps, figures, charts, networks."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import wandb
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from matplotlib.image import imread
from omegaconf import DictConfig
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger
from torch import Tensor

from respike.convert.saving import SavedNetwork
from respike.errors import InputError
from respike.system.distributed import rank
from respike.system.files import write_atomically

# The numbers of a run that W&B is told first.
HEADLINES = ("snn/test_acc", "ann/test_acc", "snn/agreement")


def make_logger(cfg: DictConfig) -> Logger:
    """The logger of cfg.logger. For one of W&B: with labels, with little text on the terminal, and HEADLINES defined first.

    Offline, W&B prints nothing but its own warnings; online, where the run is. Raises InputError if W&B refuses the run, as
    without an account.
    """
    if cfg.logger._target_ != "pytorch_lightning.loggers.WandbLogger":
        return instantiate(cfg.logger)
    settings = wandb.Settings(quiet=True, silent=cfg.logger.get("mode") == "offline")
    logger = instantiate(cfg.logger, settings=settings, **wandb_labels(cfg))
    logger._wandb_init.pop("anonymous", None)  # Lightning always passes it, and W&B warns that it is obsolete
    try:
        runs = _wandb_runs([logger])
    except wandb.Error as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"logger=wandb: {reason} (WANDB_MODE=offline, the default, needs no account)") from error
    for run in runs:
        for name in HEADLINES:
            run.define_metric(name, step_metric="trainer/global_step", step_sync=True)
    return logger


def wandb_labels(cfg: DictConfig) -> dict[str, Any]:
    """Arguments of WandbLogger by which W&B sorts runs: tags, job type, and the group and name of a sweep's job.

    Tags name the data set, the network, the conversion and the encoding.
    """
    parts = (cfg.data.get("dataset"), cfg.model, cfg.get("convert"), cfg.get("encode"))
    tags = [part._target_.rsplit(".", 1)[-1] for part in parts if part and "_target_" in part]
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return {"tags": tags, "job_type": "run"}
    job = Path(cfg.paths.run).name
    return {
        "tags": tags,
        "job_type": "sweep",
        "group": f"{cfg.name}-{cfg.sweep_name}",
        "name": f"{cfg.name} {job}"[:128],
    }


def log_metrics(trainer: Trainer, metrics: dict[str, float]) -> None:
    """Log numbers by flat, slash-separated names, to every logger."""
    for logger in trainer.loggers:
        logger.log_metrics(metrics)


def log_headlines(trainer: Trainer, metrics: Mapping[str, float]) -> None:
    """Write the HEADLINES that were measured to the summary of W&B, in this order."""
    if rank() > 0:
        return
    for run in _wandb_runs(trainer.loggers):
        run.summary.update({name: metrics[name] for name in HEADLINES if name in metrics})


def log_curve(trainer: Trainer, prefix: str, columns: dict[str, list[float]]) -> None:
    """Log columns of equal length, one of them `step`, as prefix/<column> against prefix/step (W&B, TensorBoard).

    They are not in W&B's summary: what is final about them is a metric of its own.
    """
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            for name, values in columns.items():
                for step, value in zip(columns["step"], values, strict=True):
                    logger.experiment.add_scalar(f"{prefix}/{name}", value, step)
    for run in _wandb_runs(trainer.loggers):
        # Lightning's logger has declared its own step for all metrics; each of these needs its own declaration
        run.define_metric(f"{prefix}/step", summary="none")
        for name in columns:
            if name != "step":
                run.define_metric(f"{prefix}/{name}", step_metric=f"{prefix}/step", summary="none")
        for row in zip(*columns.values(), strict=True):
            run.log({f"{prefix}/{name}": value for name, value in zip(columns, row, strict=True)})


def _wandb_runs(loggers: Sequence[Logger]) -> list[Any]:
    """The W&B runs of the loggers: one, or none."""
    return [logger.experiment for logger in loggers if isinstance(logger, WandbLogger)]


def log_figure(trainer: Trainer, name: str, path: Path) -> None:
    """Log a PNG file as an image (W&B, TensorBoard)."""
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.log_image(f"figures/{name}", [str(path)])
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(f"figures/{name}", imread(path)[..., :3], dataformats="HWC")


def log_film(trainer: Trainer, name: str, path: Path) -> None:
    """Log a GIF file (W&B)."""
    for run in _wandb_runs(trainer.loggers):
        run.log({f"figures/{name}": wandb.Video(str(path), format="gif")})


def log_confusion(trainer: Trainer, name: str, labels: Tensor, predicted: Tensor, classes: Sequence[str]) -> None:
    """Log true and predicted classes (B,) as an interactive confusion matrix (W&B)."""
    for run in _wandb_runs(trainer.loggers):
        chart = wandb.plot.confusion_matrix(
            y_true=labels.tolist(), preds=predicted.tolist(), class_names=list(classes), title=name
        )
        run.log({f"charts/{name}": chart})


def log_lines(
    trainer: Trainer, name: str, x: Sequence[float], lines: Mapping[str, Sequence[float]], x_name: str
) -> None:
    """Log lines over common x as an interactive chart (W&B)."""
    for run in _wandb_runs(trainer.loggers):
        chart = wandb.plot.line_series(xs=list(x), ys=list(lines.values()), keys=list(lines), title=name, xname=x_name)
        run.log({f"charts/{name}": chart})


def log_network(trainer: Trainer, name: str, network: SavedNetwork | dict[str, Tensor]) -> None:
    """Save a spiking network or a state dict as checkpoints/<name>.pt in the run's folder, and as an artifact of W&B."""
    if rank() > 0:
        return
    path = Path(trainer.default_root_dir, "checkpoints", f"{name}.pt")
    if isinstance(network, SavedNetwork):
        network.save(path)
    else:
        with write_atomically(path) as temporary:
            torch.save(network, temporary)
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            _artifact(logger, name, path)


def _artifact(logger: WandbLogger, name: str, path: Path) -> None:
    run = logger.experiment
    usable = re.fullmatch(r"[\w.-]{1,100}", run.name or "")  # W&B takes no = or blank, as in the name of a sweep's job
    artifact = wandb.Artifact(f"{run.name if usable else f'run-{run.id}'}-{name}", type="model")
    artifact.add_file(str(path))
    run.log_artifact(artifact)


class RunMetrics(Logger):
    """Keeps the last value of every metric of a run, for metrics.json. Every run has it, whichever logger is chosen."""

    def __init__(self):
        super().__init__()
        self.values: dict[str, float] = {}

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Keep the values of all names with a slash, except those of the training loop (fit/...)."""
        self.values |= {name: value for name, value in metrics.items() if "/" in name and not name.startswith("fit/")}

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing: the run's config is in config.yaml."""

    @property
    def name(self) -> str:
        """Name of the logger."""
        return "run"

    @property
    def version(self) -> str:
        """Empty: there is one version per run."""
        return ""
