"""What each kind of logger takes: numbers, curves over simulated steps, figures, charts, networks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from matplotlib.image import imread
from omegaconf import DictConfig
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger
from torch import Tensor

from respike.convert.saving import SavedNetwork
from respike.system.distributed import rank
from respike.system.files import write_atomically


def labels(cfg: DictConfig) -> dict[str, Any]:
    """What W&B sorts runs by: a sweep is a group, of jobs named by what varies; tags name the parts of a run."""
    if cfg.logger._target_ != "pytorch_lightning.loggers.WandbLogger":
        return {}
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
    """Flat, slash-separated numbers, to every logger."""
    for logger in trainer.loggers:
        logger.log_metrics(metrics)


def log_curve(trainer: Trainer, prefix: str, columns: dict[str, list[float]]) -> None:
    """Columns of equal length, the first of which is `step`, as prefix/<column> against prefix/step."""
    steps = columns["step"]
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            _wandb_curve(logger, prefix, columns)
        elif isinstance(logger, TensorBoardLogger):
            for name, values in columns.items():
                for step, value in zip(steps, values, strict=True):
                    logger.experiment.add_scalar(f"{prefix}/{name}", value, step)


def _wandb_curve(logger: WandbLogger, prefix: str, columns: dict[str, list[float]]) -> None:
    run = logger.experiment  # from here on the logger has bound every metric to its own step; these are bound by name
    run.define_metric(f"{prefix}/step")
    for name in columns:
        if name != "step":
            run.define_metric(f"{prefix}/{name}", step_metric=f"{prefix}/step")
    for row in zip(*columns.values(), strict=True):
        run.log({f"{prefix}/{name}": value for name, value in zip(columns, row, strict=True)})


def log_figure(trainer: Trainer, name: str, path: Path) -> None:
    """A PNG file as an image, where the logger takes images."""
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.log_image(f"figures/{name}", [str(path)])
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(f"figures/{name}", imread(path)[..., :3], dataformats="HWC")


def log_film(trainer: Trainer, name: str, path: Path) -> None:
    """A GIF file, to W&B."""
    import wandb

    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.log({f"figures/{name}": wandb.Video(str(path), format="gif")})


def log_confusion(trainer: Trainer, name: str, labels: Tensor, predicted: Tensor, classes: Sequence[str]) -> None:
    """Classes and predictions (B,) as an interactive chart, to W&B."""
    import wandb

    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            drawn = wandb.plot.confusion_matrix(
                y_true=labels.tolist(), preds=predicted.tolist(), class_names=list(classes), title=name
            )
            logger.experiment.log({f"charts/{name}": drawn})


def log_lines(trainer: Trainer, name: str, x: Sequence[float], lines: dict[str, Sequence[float]], x_name: str) -> None:
    """Lines over common x, as an interactive chart, to W&B."""
    import wandb

    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            drawn = wandb.plot.line_series(
                xs=list(x), ys=list(lines.values()), keys=list(lines), title=name, xname=x_name
            )
            logger.experiment.log({f"charts/{name}": drawn})


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
    import wandb

    artifact = wandb.Artifact(f"{logger.experiment.name or 'run'}-{name}", type="model")
    artifact.add_file(str(path))
    logger.experiment.log_artifact(artifact)


class RunMetrics(Logger):
    """Keeps the last value of every metric of the run, for metrics.json. Always there, beside the chosen logger."""

    def __init__(self):
        super().__init__()
        self.values: dict[str, float] = {}

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Numbers by name; names of the training loop (fit/, epoch) are its own logger's business."""
        self.values |= {name: value for name, value in metrics.items() if "/" in name and not name.startswith("fit/")}

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The run keeps its config in config.yaml instead."""

    @property
    def name(self) -> str:
        """Of the logger."""
        return "run"

    @property
    def version(self) -> str:
        """Of the logger: one run, one version."""
        return ""
