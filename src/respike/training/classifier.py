"""Training and testing of a network that names classes: a ReLU network, or a spiking one whose outputs are rates."""

from collections.abc import Callable
from typing import Literal

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from respike.errors import InputError


class Classifier(LightningModule):
    """A classifier `net` (images (B, C, H, W) -> (B, classes)) with its loss, optimizer, schedule and start weights.

    loss: (outputs, labels) -> scalar; optimizer: parameters -> Optimizer; scheduler: (optimizer, total_steps) ->
    scheduler stepped per batch, or None; init: changes the net's weights in place before training, or None;
    activity_penalty: of each ReLU's activations, summed over neurons and averaged over images (Keras' l1 activity
    regularizer), which the training loss adds; seed: with the epoch, of every random draw in training, so that a resumed
    training repeats the uninterrupted one; kind: whose test is logged, "ann", or "snn" of a net that spikes.
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
        self.activity: list[Tensor] = []  # of the batch in training, a number per ReLU
        self.hooks: list[RemovableHandle] = []
        self.kind = kind
        if init is not None:
            init(net)

    def on_train_start(self) -> None:
        """Watch the ReLUs while the network trains: a copy of a watched network would be one of this module too."""
        relus = (
            [module for module in self.net.modules() if isinstance(module, nn.ReLU)] if self.activity_penalty else []
        )
        self.hooks = [relu.register_forward_hook(self._watch) for relu in relus]

    def on_train_end(self) -> None:
        """Watch them no more."""
        for hook in self.hooks:
            hook.remove()

    def _watch(self, relu: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        if self.training:
            self.activity.append(output.abs().sum() / len(output))

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) -> outputs (B, classes)."""
        return self.net(images)

    def configure_optimizers(self) -> dict:
        """The optimizer, and the schedule over the whole training where there is one."""
        optimizer = self.make_optimizer(self.net.parameters())
        if self.make_scheduler is None:
            return {"optimizer": optimizer}
        scheduler = self.make_scheduler(optimizer, self.trainer.estimated_stepping_batches)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        """Dropout masks are a function of (seed, epoch, rank)."""
        torch.manual_seed(self.seed * 1_000_003 + self.current_epoch + (self.global_rank << 40))

    def _evaluate(self, batch: tuple[Tensor, Tensor], stage: str) -> Tensor:
        images, labels = batch
        outputs = self(images)
        outputs = outputs.to(torch.promote_types(outputs.dtype, torch.float32))  # 8 bits are too few for a loss
        loss = self.loss(outputs, labels)
        accuracy = (outputs.argmax(1) == labels).float().mean()
        names = {f"{stage}_loss": loss, f"{stage}_acc": accuracy}
        self.log_dict(names, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(labels), sync_dist=True)
        return loss

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """Logs fit/train_loss and fit/train_acc: means over the epoch, while the weights move and dropout is on."""
        self.activity.clear()
        loss = self._evaluate(batch, "fit/train")
        return loss + self.activity_penalty * sum(self.activity) if self.activity else loss

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        """Logs fit/val_loss and fit/val_acc."""
        self._evaluate(batch, "fit/val")

    def test_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        """Logs <kind>/test_loss and <kind>/test_acc."""
        self._evaluate(batch, f"{self.kind}/test")
