"""Converts the tested network into a spiking one."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from typing import Literal

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from respike.callbacks.log import log_metrics, log_network
from respike.convert.rate_snn import RateSNN
from respike.errors import InputError, SilentLayer

log = logging.getLogger(__name__)


class Convert(Callback):
    """At the end of the test: `snn` is `convert(net, images)`, its factors printed, its weights kept in snn.pt.

    calibrate_on: the images handed over are the training set, or the test set (as some published runs did);
    calibration_size: only the first so many, None for all.
    """

    def __init__(
        self,
        convert: Callable[..., RateSNN],
        calibrate_on: Literal["train", "test"] = "train",
        calibration_size: int | None = None,
    ):
        if calibration_size is not None and calibration_size < 1:
            raise InputError(
                f"callbacks.convert.calibration_size={calibration_size}: a number of images, or null for all"
            )
        self.convert, self.calibrate_on, self.calibration_size = convert, calibrate_on, calibration_size
        self.snn: RateSNN | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse, before any training, a network or settings that cannot be converted."""
        with contextlib.suppress(SilentLayer):  # an untrained network may well be silent on noise
            self.convert(pl_module.net, torch.rand(2, *trainer.datamodule.input_shape))

    def _images(self, trainer: Trainer) -> Iterator[Tensor]:
        left = self.calibration_size
        for images, _, _ in trainer.datamodule.batches(self.calibrate_on, 500):
            yield images[:left]
            left = None if left is None else left - len(images)
            if left is not None and left <= 0:
                break

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Convert, print and log."""
        start = time.perf_counter()
        self.snn = self.convert(pl_module.net, self._images(trainer))
        log_metrics(trainer, {"time/convert_s": time.perf_counter() - start})
        log_metrics(trainer, {f"convert/factor/{name}": factor for name, factor in self.snn.factors.items()})
        for name, factor in self.snn.factors.items():
            log.info(
                "weights of %s divided by %.4f; one spike per step stands for %.4f", name, factor, self.snn.scales[name]
            )
        log_network(trainer, "ann", pl_module.net.state_dict())
        log_network(trainer, "snn", self.snn)


def converted(trainer: Trainer) -> RateSNN:
    """The network that the trainer's `Convert` callback made."""
    return next(callback.snn for callback in trainer.callbacks if isinstance(callback, Convert))
