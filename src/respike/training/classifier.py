"""The LightningModule that trains and tests a classifier: a ReLU network, or a spiking one whose outputs are firing rates."""

from collections.abc import Callable
from typing import Literal

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from respike.errors import InputError


class Classifier(LightningModule):
    """A network `net` (images (B, C, H, W) -> outputs (B, classes)) with its loss, optimizer, schedule and initial weights.

    loss: (outputs, labels) -> scalar. optimizer: parameters -> Optimizer. scheduler: (optimizer, total_steps) ->
    scheduler stepped per batch, or None. init: sets the network's initial weights in place, or None.
    activity_penalty: weight of the l1 penalty on ReLU activations in the training loss, summed over neurons, averaged over
    images (Keras' activity_regularizer). seed: with the epoch it determines every random draw of the training, so that a
    resumed training repeats the uninterrupted one. kind: prefix of the logged test metrics, "ann" or "snn".
    Raises InputError for a negative penalty.
    """

    def __init__(
        self,
        net: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        optimizer: Callable,
        scheduler: Callable | None = None,
        init: Callable[[nn.Module], None] | None = None,
        seed: int = 0,
        activity_penalty: float = 0.0,
        kind: Literal["ann", "snn"] = "ann",
    ):
        super().__init__()
        if activity_penalty < 0:
            raise InputError(
                f"lit.activity_penalty={activity_penalty}: 0 or more is needed, as in lit.activity_penalty=1e-6"
            )
        self.net, self.loss = net, loss
        self.make_optimizer, self.make_scheduler, self.seed = optimizer, scheduler, seed
        self.activity_penalty = activity_penalty
        self.activations: list[Tensor] = []  # of the current batch: one scalar per ReLU
        self.hooks: list[RemovableHandle] = []
        self.kind = kind
        if init is not None:
            init(net)

    def on_train_start(self) -> None:
        """Add hooks to the ReLUs if their activity is penalized.

        Hooks are bound methods, so deepcopy(net) would also copy this module; they exist only while the network trains.
        """
        if self.activity_penalty:
            relus = [module for module in self.net.modules() if isinstance(module, nn.ReLU)]
            self.hooks = [relu.register_forward_hook(self._record_activation) for relu in relus]

    def on_train_end(self) -> None:
        """Remove the hooks."""
        for hook in self.hooks:
            hook.remove()

    def _record_activation(self, relu: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        if self.training:
            self.activations.append(output.abs().sum() / len(output))

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) -> outputs (B, classes)."""
        return self.net(images)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer, and the schedule if there is one, stepped per batch."""
        optimizer = self.make_optimizer(self.net.parameters())
        if self.make_scheduler is None:
            return {"optimizer": optimizer}
        scheduler = self.make_scheduler(optimizer, self.trainer.estimated_stepping_batches)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        """Seed the dropout masks with (seed, epoch, rank)."""
        torch.manual_seed(self.seed * 1_000_003 + self.current_epoch + (self.global_rank << 40))

    def _evaluate(self, batch: tuple[Tensor, Tensor], stage: str) -> Tensor:
        images, labels = batch
        outputs = self(images)
        outputs = outputs.to(torch.promote_types(outputs.dtype, torch.float32))  # bfloat16 is too coarse for a loss
        loss = self.loss(outputs, labels)
        accuracy = (outputs.argmax(1) == labels).float().mean()
        metrics = {f"{stage}_loss": loss, f"{stage}_acc": accuracy}
        self.log_dict(metrics, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(labels), sync_dist=True)
        return loss

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """Logs fit/train_loss and fit/train_acc, averaged over the epoch in training mode, while the weights change."""
        self.activations.clear()
        loss = self._evaluate(batch, "fit/train")
        return loss + self.activity_penalty * sum(self.activations) if self.activations else loss

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        """Logs fit/val_loss and fit/val_acc."""
        self._evaluate(batch, "fit/val")

    def test_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        """Logs <kind>/test_loss and <kind>/test_acc."""
        self._evaluate(batch, f"{self.kind}/test")
