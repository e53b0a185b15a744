"""How a training ends, and which of its weights are kept: recipe.patience and recipe.keep."""

from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

from respike.errors import InputError
from respike.system.files import read_csv

LOSS = "fit/val_loss"
KEPT = ("last", "best")


@dataclass(frozen=True)
class Ending:
    """patience: end after so many epochs in a row without a lower validation loss, None: go through all of them; keep: the
    weights of the "last" epoch, or of the "best", which has the lowest validation loss."""

    patience: int | None = None
    keep: str = "last"

    def __post_init__(self) -> None:
        if self.patience is not None and not (isinstance(self.patience, int) and self.patience >= 1):
            raise InputError(
                f"recipe.patience={self.patience}: a number of epochs from 1 up, or null, as in recipe.patience=7"
            )
        if self.keep not in KEPT:
            raise InputError(f"recipe.keep={self.keep}: unknown, choose recipe.keep={' or recipe.keep='.join(KEPT)}")

    @classmethod
    def of(cls, cfg: DictConfig) -> "Ending":
        """That of a config's recipe; a recipe without these keys goes to its last epoch and keeps it."""
        recipe = cfg.get("recipe") or {}
        return cls(recipe.get("patience"), recipe.get("keep", "last"))

    def check(self, data: LightningDataModule) -> None:
        """Refuse to look at a validation loss that is not measured."""
        if data.val_size == 0 and (self.patience is not None or self.keep == "best"):
            raise InputError(
                f"recipe.patience={self.patience}, recipe.keep={self.keep} need validation images: type data.val_size=6000, or "
                "recipe.patience=null recipe.keep=last"
            )

    def callbacks(self, folder: Path) -> list[Callback]:
        """What watches the validation loss in a training that keeps its files in `folder`."""
        stop = [] if self.patience is None else [Patience(LOSS, patience=self.patience, mode="min")]
        best = ModelCheckpoint(
            dirpath=folder, filename="best", monitor=LOSS, mode="min", save_weights_only=True,
            save_on_train_epoch_end=True, enable_version_counter=False,
        )  # fmt: skip
        return stop + ([best] if self.keep == "best" else [])

    def kept_epoch(self, history: Path) -> dict[str, float]:
        """The line of a finished training's history that the kept weights are of; {} where there is none."""
        epochs = read_csv(history)
        if epochs.empty:
            return {}
        return epochs.iloc[epochs["val_loss"].argmin() if self.keep == "best" else -1].to_dict()


class Patience(EarlyStopping):
    """EarlyStopping that also ends a resumed training which was killed after its last epoch."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Its state is back by now."""
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience
