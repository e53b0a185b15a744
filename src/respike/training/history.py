"""One line per finished epoch of a training."""

import logging
import time
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from respike.system.files import read_csv, write_csv
from respike.training.layer_activity import ACTIVITY

log = logging.getLogger(__name__)
EVERY = 120.0  # seconds between two lines of an epoch that takes long, where there is no progress bar


class EpochHistory(Callback):
    """Appends epoch, learning rate, losses, accuracies and seconds to a csv file; a resumed training adds to it."""

    def __init__(self, path: Path):
        self.path = path
        self.start = self.told = 0.0

    def seconds(self) -> float:
        """Seconds of the epochs already in the file."""
        return float(read_csv(self.path)["seconds"].sum()) if self.path.is_file() else 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the epoch's clock."""
        self.start = self.told = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Say how far a long epoch is."""
        now = time.perf_counter()
        if now - self.told < EVERY or trainer.progress_bar_callback is not None or not trainer.is_global_zero:
            return
        self.told, share = now, (batch_idx + 1) / trainer.num_training_batches
        left = (now - self.start) * (1 / share - 1) / 60
        log.info("epoch %d: %.0f %%, %.0f min left", trainer.current_epoch + 1, 100 * share, left)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the epoch's line. Validation, where there is one, has run before."""
        if not trainer.is_global_zero:
            return
        measured = {name.removeprefix("fit/"): float(value) for name, value in trainer.callback_metrics.items()}
        row = {
            "epoch": trainer.current_epoch + 1,
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            **measured,
            "seconds": round(time.perf_counter() - self.start, 3),
        }
        earlier = read_csv(self.path).to_dict("records") if self.path.is_file() else []
        write_csv(self.path, [*earlier, row])
        if trainer.progress_bar_callback is None:
            log.info(
                "epoch %d of %d: %s",
                row["epoch"],
                trainer.max_epochs,
                ", ".join(f"{k} {v:.4g}" for k, v in row.items() if k != "epoch" and not k.startswith(ACTIVITY)),
            )
