"""Spikes per layer of a spiking network while it is trained."""

from contextlib import ExitStack
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from respike.layers.recording import spike_hooks

ACTIVITY = "activity/"


class LayerActivity(Callback):
    """Logs fit/activity/<layer>, the mean spikes per neuron and step, on the first batch of each validation."""

    def __init__(self):
        self.rates: dict[str, Tensor] = {}
        self.hooks = ExitStack()

    def _record(self, name: str, spikes: Tensor) -> None:
        self.rates[name] = spikes.float().mean()

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Add a forward hook to every spiking layer before the first batch."""
        if batch_idx == 0:
            self.hooks.enter_context(spike_hooks(pl_module.net, self._record))

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Remove the hooks after the first batch and log."""
        if batch_idx == 0:
            self.hooks.close()
            names = {f"fit/{ACTIVITY}{name}": rate for name, rate in self.rates.items()}
            pl_module.log_dict(names, on_step=False, on_epoch=True, batch_size=1, sync_dist=True)
