"""Stops a training whose loss or weights became nan or inf."""

from collections.abc import Mapping
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from respike.errors import InputError
from respike.networks.state_dicts import not_finite
from respike.system.distributed import world_size


class StopIfDiverged(Callback):
    """Raises InputError at the first step whose loss is not finite, and at the end of an epoch if a loss or a weight is not.

    On a GPU, where reading the loss waits for the device, steps are checked when Lightning logs (`log_every_n_steps`). In a
    distributed job only epochs are checked: their losses and the weights are the same in all processes.
    """

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Check the loss of the step."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else None
        if not isinstance(loss, Tensor) or world_size() > 1:
            return
        every = 1 if loss.device.type == "cpu" else trainer.log_every_n_steps or 50  # type: ignore[attr-defined]
        if (batch_idx + 1) % every == 0 and not torch.isfinite(loss):
            raise _diverged(trainer, f"step {batch_idx + 1}", f"the loss is {float(loss)}")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the losses of the epoch and the weights, before they are saved."""
        for name, value in trainer.callback_metrics.items():
            if name.endswith("_loss") and not torch.isfinite(value):
                raise _diverged(trainer, "its end", f"{name.removeprefix('fit/')} is {float(value)}")
        weight = not_finite(pl_module, pl_module.state_dict())
        if weight is not None:
            raise _diverged(trainer, "its end", f"{weight.removeprefix('net.')} holds nan or inf")


def _diverged(trainer: Trainer, when: str, what: str) -> InputError:
    rate = trainer.optimizers[0].param_groups[0]["lr"]
    return InputError(
        f"the training diverged: in epoch {trainer.current_epoch + 1}, at {when}, {what} (learning rate {float(rate):.3g}); "
        "type a lower recipe.optimizer.lr or recipe.scheduler.max_lr, or trainer.gradient_clip_val=1"
    )
