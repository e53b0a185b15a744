"""When a training stops and which weights it keeps: recipe.patience and recipe.keep."""

from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

from respike.data.datamodule import ImageDataModule
from respike.errors import InputError
from respike.system.files import read_csv

MONITOR = "fit/val_loss"
KEEP = ("last", "best")


@dataclass(frozen=True)
class EarlyStoppingSettings:
    """Settings of a recipe.

    patience: stop after this many consecutive epochs without a lower validation loss; None: train all epochs.
    keep: keep the weights of the "last" epoch, or of the "best", which has the lowest validation loss.
    Raises InputError for other values.
    """

    patience: int | None = None
    keep: str = "last"

    def __post_init__(self) -> None:
        if self.patience is not None and not (isinstance(self.patience, int) and self.patience >= 1):
            raise InputError(
                f"recipe.patience={self.patience}: a number of epochs from 1 up, or null, as in recipe.patience=7"
            )
        if self.keep not in KEEP:
            raise InputError(f"recipe.keep={self.keep}: unknown, choose recipe.keep={' or recipe.keep='.join(KEEP)}")

    @classmethod
    def from_config(cls, cfg: DictConfig) -> "EarlyStoppingSettings":
        """The settings of cfg.recipe, with the defaults for keys that it does not have."""
        recipe = cfg.get("recipe") or {}
        return cls(recipe.get("patience"), recipe.get("keep", "last"))

    def check(self, data: ImageDataModule) -> None:
        """Raise InputError if the settings need a validation loss and the data has no validation images."""
        if data.val_size == 0 and (self.patience is not None or self.keep == "best"):
            raise InputError(
                f"recipe.patience={self.patience}, recipe.keep={self.keep} need validation images: type data.val_size=6000, or "
                "recipe.patience=null recipe.keep=last"
            )

    def callbacks(self, folder: Path) -> list[Callback]:
        """The Lightning callbacks for these settings; the best weights are saved as folder/best.ckpt."""
        callbacks: list[Callback] = []
        if self.patience is not None:
            callbacks.append(ResumableEarlyStopping(MONITOR, patience=self.patience, mode="min"))
        if self.keep == "best":
            best = ModelCheckpoint(
                dirpath=folder, filename="best", monitor=MONITOR, mode="min", save_weights_only=True,
                save_on_train_epoch_end=True, enable_version_counter=False,
            )  # fmt: skip
            callbacks.append(best)
        return callbacks

    def kept_epoch(self, history: Path) -> dict[str, float]:
        """The row of the kept epoch in a finished training's history file; {} if the file has no row."""
        epochs = read_csv(history)
        if epochs.empty:
            return {}
        row = epochs["val_loss"].argmin() if self.keep == "best" else len(epochs) - 1
        return {str(name): float(value) for name, value in epochs.iloc[row].items()}


class ResumableEarlyStopping(EarlyStopping):
    """EarlyStopping that also stops a training which was interrupted after its last epoch and is resumed."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The callback's state has been restored at this point."""
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience
