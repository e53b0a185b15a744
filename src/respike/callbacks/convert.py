"""Converts the tested network into a spiking one."""

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from respike.callbacks.log import log_metrics, log_network
from respike.convert import RateSNN, TTFSNet, load_snn
from respike.errors import InputError, SilentLayer
from respike.system.cache import code_hash, measured_once, network_key
from respike.training.trainer import callbacks_of, data_of

Network = TypeVar("Network", RateSNN, TTFSNet)
log = logging.getLogger(__name__)


class Convert(Callback):
    """At the end of the test: `snn` is `convert(net, images)`; its scales or ranges are logged, its weights saved in snn.pt.

    calibrate_on: use the training images, or the test images, as some published runs did. calibration_size: use only that many
    images, null for all. calibration_seed: draw them at random by this seed; null: the first ones of the split. stages: folder
    in which conversions are cached, so that a network is converted once for all simulations; None converts in every run.
    keep_networks: save both networks in the run's folder and with the logger.
    """

    def __init__(
        self,
        convert: Callable[..., RateSNN | TTFSNet],
        calibrate_on: Literal["train", "test"] = "train",
        calibration_size: int | None = None,
        calibration_seed: int | None = None,
        stages: str | Path | None = None,
        keep_networks: bool = True,
    ):
        if calibration_size is not None and calibration_size < 1:
            raise InputError(
                f"callbacks.convert.calibration_size={calibration_size}: a number of images, or null for all"
            )
        self.convert, self.calibrate_on = convert, calibrate_on
        self.calibration_size, self.calibration_seed = calibration_size, calibration_seed
        self.stages = None if stages is None else Path(stages)
        self.keep_networks = keep_networks
        self.snn: RateSNN | TTFSNet | None = None

    @property
    def method(self) -> Callable[..., RateSNN | TTFSNet]:
        """The function that converts, without its settings."""
        return getattr(self.convert, "func", self.convert)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Raise InputError, before any training, for a network or settings that cannot be converted or saved."""
        with contextlib.suppress(SilentLayer):  # an untrained network may be silent on random images
            snn = self.convert(pl_module.net, torch.rand(2, *data_of(trainer).input_shape))
            if self.stages or self.keep_networks:
                snn.description()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Convert, log and save."""
        self.snn, seconds, was_cached = self._cached_conversion(trainer, pl_module.net)
        log_metrics(trainer, {"time/convert_s": seconds, "time/convert_was_cached": float(was_cached)})
        log_metrics(trainer, _ranges(self.snn) if isinstance(self.snn, TTFSNet) else _factors(self.snn))
        if self.keep_networks:
            log_network(trainer, "ann", pl_module.net.state_dict())
            log_network(trainer, "snn", self.snn)

    def _cached_conversion(self, trainer: Trainer, net: nn.Module) -> tuple[RateSNN | TTFSNet, float, bool]:
        """The spiking network, the seconds that its conversion took, and whether an earlier run did it."""
        key = {
            "stage": "convert",
            "convert": _described(self.convert),
            "data": [data_of(trainer).fingerprint(self.calibrate_on), self.calibration_size, self.calibration_seed],
            "source": code_hash("conversion"),
        }
        device = next(net.parameters(), torch.empty(0)).device
        return measured_once(
            self.stages,
            key | network_key(net),
            measure=lambda: self.convert(net, self._images(trainer)),
            save=lambda snn, folder: snn.save(folder / "snn.pt"),
            load=lambda folder: load_snn(folder / "snn.pt", device),
        )

    def _images(self, trainer: Trainer) -> Iterator[Tensor]:
        """The calibration images in batches. In a distributed run each process gets its share of them."""
        data = data_of(trainer)
        size = min(500, data.eval_batch_size)
        batches = data.batches(
            self.calibrate_on, size, shared=True, first=self.calibration_size, draw=self.calibration_seed
        )
        return (images for images, _, _ in batches)


def _described(value: Any) -> Any:
    """A conversion as plain data, the same in every process: the name of a partial's function, and its settings."""
    if not isinstance(value, functools.partial):
        return (
            f"{value.__module__}.{value.__qualname__}" if callable(value) and hasattr(value, "__qualname__") else value
        )
    return [_described(value.func), {name: _described(setting) for name, setting in value.keywords.items()}]


def _factors(snn: RateSNN) -> dict[str, float]:
    """convert/factor/<layer>: the number by which its weights were divided, the mean over channels.

    Where channels have scales of their own also their smallest, median and largest: convert/scale_min/<layer> and so on.
    """
    measured = {f"convert/factor/{name}": factor for name, factor in snn.factors.items()}
    for name, factor in snn.factors.items():
        scale = torch.as_tensor(snn.scales[name])
        spread = {"min": float(scale.min()), "median": float(scale.median()), "max": float(scale.max())}
        of = "{min:.4f} to {max:.4f}, median {median:.4f}" if scale.ndim else "{min:.4f}"
        spikes = name != snn.output or snn.readout == "counts"
        represents = f"; one spike per step represents {of.format(**spread)}" if spikes else ""
        log.info("weights of %s divided by %.4f%s", name, factor, represents)
        if scale.ndim:
            measured |= {f"convert/scale_{which}/{name}": value for which, value in spread.items()}
    return measured


def _ranges(snn: TTFSNet) -> dict[str, float]:
    """convert/zeta, and per hidden layer convert/x (X_n), convert/active (share of activations above 0), convert/t_max."""
    assert snn.ranges is not None  # `exact_map` measures them
    measured = {"convert/zeta": float(snn.zeta)}
    for name, largest in snn.ranges.largest.items():
        layer, active = snn.layers[name], snn.ranges.active[name]
        log.info(
            "%s: activations up to %.4f, %.1f %% of them above 0; spikes between %.4f and %.4f",
            name, largest, 100 * active, layer.t_min, layer.t_max,
        )  # fmt: skip
        measured |= {f"convert/x/{name}": largest, f"convert/active/{name}": active}
        measured[f"convert/t_max/{name}"] = float(layer.t_max)
    log.info("zeta %.4g: the classes are read at %.4f", snn.zeta, snn.latency)
    return measured


def converter(trainer: Trainer) -> Convert:
    """The trainer's `Convert` callback."""
    return next(callback for callback in callbacks_of(trainer) if isinstance(callback, Convert))


def converted(trainer: Trainer, kind: type[Network]) -> Network:
    """The spiking network, of this class, that the trainer's `Convert` callback made."""
    networks = (callback.snn for callback in callbacks_of(trainer) if isinstance(callback, Convert))
    return next(network for network in networks if isinstance(network, kind))


def conversion(trainer: Trainer) -> str:
    """The name of the function by which the trainer's `Convert` callback converts, as in "percentile_norm"."""
    return converter(trainer).method.__name__
