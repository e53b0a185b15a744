"""A table of a training, one row per finished epoch."""

import logging
import time
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from respike.system.files import write_csv
from respike.training.layer_activity import ACTIVITY

log = logging.getLogger(__name__)
EVERY = 120.0  # seconds between two log lines within an epoch, if there is no progress bar


class EpochHistory(Callback):
    """Writes epoch, learning rate, losses, accuracies and seconds to a CSV file.

    The rows are part of the checkpoint, so that a resumed training continues with those of the epochs it has done.
    """

    def __init__(self, path: Path):
        self.path = path
        self.rows: list[dict[str, float]] = []
        self.epoch_start = self.last_log = 0.0
        self.earlier = 0.0  # seconds of the epochs before the training was resumed

    def state_dict(self) -> dict[str, Any]:
        """The rows, for the checkpoint."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The rows of a checkpoint."""
        self.rows = state_dict["rows"]
        self.earlier = sum(row["seconds"] for row in self.rows)

    def write(self) -> None:
        """Write the file."""
        write_csv(self.path, self.rows)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of the epoch."""
        self.epoch_start = self.last_log = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the progress of a long epoch."""
        now = time.perf_counter()
        if now - self.last_log < EVERY or trainer.progress_bar_callback is not None or not trainer.is_global_zero:
            return
        self.last_log = now
        done = (batch_idx + 1) / trainer.num_training_batches
        minutes_left = (now - self.epoch_start) * (1 / done - 1) / 60
        log.info("epoch %d: %.0f %%, %.0f min left", trainer.current_epoch + 1, 100 * done, minutes_left)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the row of the epoch. Lightning has validated before this hook."""
        if not trainer.is_global_zero:
            return
        metrics = {name.removeprefix("fit/"): float(value) for name, value in trainer.callback_metrics.items()}
        row = {
            "epoch": trainer.current_epoch + 1,
            "learning_rate": float(trainer.optimizers[0].param_groups[0]["lr"]),
            **metrics,
            "seconds": round(time.perf_counter() - self.epoch_start, 3),
        }
        self.rows.append(row)
        self.write()
        if trainer.progress_bar_callback is None:
            shown = {name: value for name, value in row.items() if name != "epoch" and not name.startswith(ACTIVITY)}
            numbers = ", ".join(f"{name} {value:.4g}" for name, value in shown.items())
            log.info("epoch %d of %d: %s", row["epoch"], trainer.max_epochs, numbers)
