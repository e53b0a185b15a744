"""Training in spike time (Stanojevic et al. 2024): a ReLU network becomes a network of B1 neurons, which is trained as such."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from respike.convert.exact.spike_time_net import set_intervals, spike_time_net
from respike.errors import InputError
from respike.networks.quantize import rounded_weights
from respike.networks.spike_times import Hardware, SpikeTimes
from respike.training.classifier import Classifier


class SpikeTimeClassifier(Classifier):
    """Trains the leads of spikes in place of ReLU activations; batch norms are folded into the weights before.

    net, and all settings up to `kind`: as in `Classifier`. input_range: [p, q]; a pixel x spikes (x - p) / (q - p) before
    t_min. largest: X_n of every layer at the start; None: measured on training images. quantile: X_n is this quantile of the
    positive activations instead, intervals stay as they are, and larger activations spike at t_min, with zero gradient. zeta:
    an interval is (1 + zeta) X_n. gamma: after each batch an interval becomes gamma times the batch's largest activation, if
    that is longer. weight_bits: weights are rounded to 2^bits levels, one of which is 0, in weight_range, or from the smallest
    to the largest of a layer (None), with the gradient of unrounded ones. time_noise, levels, alpha_noise, neurons: of
    `Hardware`. spike_penalty: weight in the loss of the spikes per image, counted by `smooth_count`.
    Raises InputError for other values.
    """

    def __init__(
        self,
        net: nn.Module,
        *args: Any,
        input_range: Sequence[float] = (0.0, 1.0),
        largest: float | None = 1000.0,
        quantile: float | None = None,
        zeta: float = 0.5,
        gamma: float = 10.0,
        time_noise: float = 0.0,
        levels: int | None = None,
        alpha_noise: float = 0.0,
        neurons: str = "b1",
        weight_bits: int | None = None,
        weight_range: Sequence[float] | None = (-1.0, 1.0),
        spike_penalty: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(net, *args, **kwargs)
        self.hardware = Hardware(time_noise, levels, alpha_noise, neurons)
        if not zeta > -1:
            raise InputError(f"lit.zeta={zeta}: above -1 is needed, or a layer has no time to fire; as in lit.zeta=0.5")
        if largest is not None and not largest > 0:
            raise InputError(f"lit.largest={largest}: above 0, or null to measure it, as in lit.largest=1000")
        if quantile is not None and not 0 < quantile <= 1:
            raise InputError(f"lit.quantile={quantile}: in (0, 1], or null for the largest, as in lit.quantile=0.99")
        if quantile is not None and neurons == "alpha":
            raise InputError(
                f"lit.quantile={quantile}: neurons of the exact mapping may fire before t_min; type lit.neurons=b1"
            )
        if weight_bits is not None and not 2 <= weight_bits <= 24:
            raise InputError(f"lit.weight_bits={weight_bits}: 2 to 24, or null, as in lit.weight_bits=6")
        if not spike_penalty >= 0:
            raise InputError(f"lit.spike_penalty={spike_penalty}: 0 or more is needed, as in lit.spike_penalty=1e-5")
        if weight_range is not None and not (len(weight_range) == 2 and weight_range[0] < 0 < weight_range[1]):
            raise InputError(
                f"lit.weight_range={list(weight_range)}: a number below 0 and one above, or null, as in lit.weight_range=[-1,1]"
            )
        self.input_range = float(input_range[0]), float(input_range[1])
        self.largest, self.quantile, self.zeta, self.gamma = largest, quantile, zeta, gamma
        self.weight_bits, self.weight_range = weight_bits, weight_range
        self.spike_penalty = spike_penalty
        self.rounded = False  # whether the weights of `net` are the rounded ones

    def spike_layers(self) -> dict[str, SpikeTimes]:
        """The layers of spiking neurons by name, in order; empty before `prepare`."""
        return {name: module for name, module in self.net.named_modules() if isinstance(module, SpikeTimes)}

    @property
    def latency(self) -> float:
        """t_min of the output layer."""
        return 1 + sum(float(layer.length) for layer in self.spike_layers().values())

    def prepare(self, images: Tensor) -> None:
        """Make `net` spike and set its intervals, before a training or a test. images: of the training set (B, C, H, W).

        Raises InputError for a network that cannot be trained so, and for noise as wide as an interval.
        """
        if not self.spike_layers():
            start = 1.0 if self.largest is None else (1 + self.zeta) * self.largest
            saturates = self.quantile is not None
            self.net = spike_time_net(self.net, images, self.input_range, start, saturates, self.hardware)
            if self.largest is None or saturates:
                set_intervals(self.net, images, 1 + self.zeta, self.quantile)
        lengths = {name: float(layer.length) for name, layer in self.spike_layers().items()}
        for name, length in ({"input": 1.0} | lengths).items():
            if not self.hardware.time_noise < length:
                raise InputError(
                    f"lit.time_noise={self.hardware.time_noise}: as wide as the interval of '{name}', {length:.4g}; "
                    "type lit.time_noise=0.01"
                )

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """The loss of `Classifier`, and the penalty on spikes."""
        layers = list(self.spike_layers().values())
        for layer in layers:
            layer.counts = self.spike_penalty > 0
        loss = super().training_step(batch, index)
        counts = [layer.spikes for layer in layers if layer.counts and layer.spikes is not None]
        return loss + self.spike_penalty * sum(counts) if counts else loss

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) -> potentials of the output layer at its t_min (B, classes)."""
        if self.training and (self.hardware.time_noise or self.hardware.levels is not None):
            p, q = self.input_range
            images = self.hardware.disturbed((images - p) / (q - p), 1.0).clamp(max=1) * (q - p) + p
        if self.weight_bits is None or self.rounded:
            return self.net(images)
        return functional_call(self.net, self._rounded_weights(), (images,))

    def _rounded_weights(self) -> dict[str, Tensor]:
        assert self.weight_bits is not None
        return {
            name: rounded_weights(weight, self.weight_bits, self.weight_range)
            for name, weight in self.net.named_parameters()
            if name.rpartition(".")[2] == "weight"
        }

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Lengthen the intervals; log fit/latency."""
        for layer in self.spike_layers().values():
            layer.widen(self.gamma)
        self.log("fit/latency", self.latency, on_step=False, on_epoch=True, reduce_fx="max", batch_size=1)

    def on_test_start(self) -> None:
        """Round the weights for good, for whatever reads them from here on."""
        if self.weight_bits is not None and not self.rounded:
            self.net.load_state_dict(self._rounded_weights(), strict=False)
            self.rounded = True
