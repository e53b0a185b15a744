"""Converts the tested network into a spiking one."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from respike.callbacks.log import log_metrics, log_network
from respike.convert.exact.ttfs_net import TTFSNet
from respike.convert.rate.rate_snn import RateSNN
from respike.errors import InputError, SilentLayer
from respike.system.cache import cached, network_key, source_hash
from respike.system.distributed import rank

log = logging.getLogger(__name__)


class Convert(Callback):
    """At the end of the test: `snn` is `convert(net, images)`, its scales or ranges printed, its weights kept in snn.pt.

    calibrate_on: the images handed over are the training set, or the test set (as some published runs did);
    calibration_size: only the first so many, None for all. stages: folder of finished conversions: the same network is
    converted once for all simulations of it; None: convert anew. keep_networks: leave both networks' weights in the
    run's folder and with the logger.
    """

    def __init__(
        self,
        convert: Callable[..., RateSNN | TTFSNet],
        calibrate_on: Literal["train", "test"] = "train",
        calibration_size: int | None = None,
        stages: str | Path | None = None,
        keep_networks: bool = True,
    ):
        if calibration_size is not None and calibration_size < 1:
            raise InputError(
                f"callbacks.convert.calibration_size={calibration_size}: a number of images, or null for all"
            )
        self.convert, self.calibrate_on, self.calibration_size = convert, calibrate_on, calibration_size
        self.stages = None if stages is None else Path(stages)
        self.keep_networks = keep_networks
        self.snn: RateSNN | TTFSNet | None = None
        self.makes: type | None = None  # kind of spiking network, tried out on the untrained one

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse, before any training, a network or settings that cannot be converted."""
        if hasattr(pl_module.net, "spiking_layers"):
            raise InputError(
                "the network spikes by itself, there is nothing to convert: type callbacks=direct simulate=direct "
                "convert=direct encode=direct"
            )
        with contextlib.suppress(SilentLayer):  # an untrained network may well be silent on noise
            self.makes = type(self.convert(pl_module.net, torch.rand(2, *trainer.datamodule.input_shape)))

    def _images(self, trainer: Trainer) -> Iterator[Tensor]:
        """Of several ranks each gets its share; the statistics of convert.activations are over all of them."""
        batches = trainer.datamodule.batches(self.calibrate_on, 500, shared=True, first=self.calibration_size)
        return (images for images, _, _ in batches)

    def _converted(self, trainer: Trainer, net: nn.Module) -> tuple[RateSNN | TTFSNet, float]:
        """The spiking network, and the seconds it took when it was made."""

        def make(folder: Path) -> float:
            start = time.perf_counter()
            snn = self.convert(net, self._images(trainer))
            if rank() == 0:
                torch.save(snn, folder / "snn.pt")
            return time.perf_counter() - start

        if self.stages is None:
            start = time.perf_counter()
            return self.convert(net, self._images(trainer)), time.perf_counter() - start
        method = getattr(self.convert, "func", self.convert)
        key = {
            "stage": "convert",
            "convert": [f"{method.__module__}.{method.__qualname__}", getattr(self.convert, "keywords", {})],
            "data": [trainer.datamodule.fingerprint(self.calibrate_on), self.calibration_size],
            "source": source_hash("convert", "networks", "data"),
        }
        stage = cached(self.stages, key | network_key(net), make)
        return torch.load(stage.folder / "snn.pt", map_location=_device(net), weights_only=False), stage.seconds

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Convert, print and log."""
        self.snn, seconds = self._converted(trainer, pl_module.net)
        log_metrics(trainer, {"time/convert_s": seconds})
        log_metrics(trainer, _ranges(self.snn) if isinstance(self.snn, TTFSNet) else _factors(self.snn))
        if self.keep_networks:
            log_network(trainer, "ann", pl_module.net.state_dict())
            log_network(trainer, "snn", self.snn)


def _factors(snn: RateSNN) -> dict[str, float]:
    """convert/factor/<layer>: what its weights were divided by."""
    for name, factor in snn.factors.items():
        log.info("weights of %s divided by %.4f; one spike per step stands for %.4f", name, factor, snn.scales[name])
    return {f"convert/factor/{name}": factor for name, factor in snn.factors.items()}


def _ranges(snn: TTFSNet) -> dict[str, float]:
    """convert/zeta, and per hidden layer convert/x (X_n), convert/active (share of activations above 0), convert/t_max."""
    measured = {"convert/zeta": float(snn.zeta)}
    for name, largest in snn.ranges.largest.items():
        layer, active = snn.layers[name], snn.ranges.active[name]
        log.info(
            "%s: activations up to %.4f, %.1f %% of them above 0; it spikes from %.4f to %.4f",
            name, largest, 100 * active, layer.t_min, layer.t_max,
        )  # fmt: skip
        measured |= {f"convert/x/{name}": largest, f"convert/active/{name}": active}
        measured[f"convert/t_max/{name}"] = float(layer.t_max)
    log.info("zeta %.4g: the classes are read at %.4f", snn.zeta, snn.latency)
    return measured


def _device(net: nn.Module) -> torch.device:
    return next(net.parameters(), torch.empty(0)).device


def converted(trainer: Trainer) -> RateSNN | TTFSNet:
    """The network that the trainer's `Convert` callback made."""
    return next(callback.snn for callback in trainer.callbacks if isinstance(callback, Convert))


def kind_made(trainer: Trainer) -> type | None:
    """What kind of spiking network it makes, known before any training; None where the untrained network is silent."""
    return next(callback.makes for callback in trainer.callbacks if isinstance(callback, Convert))
