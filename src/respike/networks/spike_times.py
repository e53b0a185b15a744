"""The activation of a network that is trained in spike time (Stanojevic et al. 2024), in place of every ReLU.

A neuron of the B1 model sums its input while its sources fire, V(t_min) = sum_j W_ij (t_min - t_j). From t_min on V rises with
slope 1 and is compared with the threshold theta_i = t_max - t_min - D_i:

    t_i = t_max - D_i - sum_j W_ij (t_min - t_j),    in [t_min, t_max]

Times are stored as leads, x_i = t_max - t_i = clip(sum_j W_ij x_j + D_i, 0, t_max - t_min): ReLU's value, and with
d x_i / d W_ij = x_j and d x_i / d D_i = 1 between the bounds also its gradients. Leads keep full precision however long
the intervals are. The interval t_max - t_min is a buffer: no gradient passes through it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from respike.errors import InputError

NEURONS: Final = ("b1", "alpha")
BOUNDS = (-10.0, 0.99)  # of each neuron's sum of weights in the exact mapping (2023)


@dataclass(frozen=True)
class Hardware:
    """What hardware does to spikes, applied while a network is trained. Deviations are those of normal noise, 0 for none.

    time_noise: of each spike time, after the clamp at t_max, fresh in every batch. levels: number of possible spike times in
    each interval; None: any time. alpha_noise: of the drive of each neuron or channel, fresh in every batch. neurons: whose
    drive: "b1", the slope from t_min on, or "alpha", the drive of the neurons of the exact mapping (2023), whose slope at the
    threshold is 1 / (1 - sum_j W_ij) before noise, and which that mapping rescales; noise and levels are then of its spikes.
    Raises InputError for other values.
    """

    time_noise: float = 0.0
    levels: int | None = None
    alpha_noise: float = 0.0
    neurons: str = "b1"

    def __post_init__(self) -> None:
        for name in ("time_noise", "alpha_noise"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"lit.{name}={getattr(self, name)}: 0 or a deviation, as in lit.{name}=0.005")
        if self.levels is not None and self.levels < 2:
            raise InputError(f"lit.levels={self.levels}: 2 or more, or null for spikes at any time")
        if self.neurons not in NEURONS:
            raise InputError(
                f"lit.neurons={self.neurons}: unknown, choose lit.neurons={' or lit.neurons='.join(NEURONS)}"
            )

    def disturbed(self, leads: Tensor, length: Tensor | float) -> Tensor:
        """Leads of any shape with time noise and on the grid of times; the gradient is that of the leads as they were.

        A spike behind t_max comes too late to be read: its lead is 0.
        """
        with torch.no_grad():
            moved = leads
            if self.time_noise:
                moved = (moved + self.time_noise * torch.randn_like(moved)).clamp_(min=0)
            if self.levels is not None:
                step = length / (self.levels - 1)
                moved = (moved / step).round_() * step
            change = moved - leads
        return leads + change if self.time_noise or self.levels is not None else leads


def has_spike_times(weights: Mapping[str, Any]) -> bool:
    """Whether a state dict is that of a network with `SpikeTimes`."""
    return any(name.rpartition(".")[2] == "length" for name in weights)


def _per_channel(values: Tensor, x: Tensor) -> Tensor:
    """Values (N,) in a shape that multiplies x (B, N, ...)."""
    return values.view(-1, *[1] * (x.ndim - 2))


def _ending(leads: Tensor, length: Tensor) -> Tensor:
    """Leads of at most `length`, with zero gradient above it."""
    return torch.where(leads > length, length, leads)


def smooth_count(leads: Tensor) -> Tensor:
    """Spikes per image with a gradient: the sum of 1 - exp(-x / c) over leads x (B, ...), c a tenth of the mean above 0.

    A lead far above c counts as one spike, and those near 0 are driven to it. c has no gradient, so that weights of another
    scale change nothing.
    """
    active = leads.detach()
    c = active.sum() / (active > 0).sum().clamp(min=1) / 10
    return (1 - (-leads / c.clamp(min=torch.finfo(leads.dtype).tiny)).exp()).sum() / len(leads)


class SpikeTimes(nn.ReLU):
    """Leads of the spikes of a layer whose potentials at t_min, with the bias, are the input. At test it is a ReLU.

    length: t_max - t_min at the start. saturates: the interval stays as it is, and an activation above it is a spike at t_min,
    at test too; otherwise `widen` keeps it longer than any activation.
    """

    length: Tensor

    def __init__(self, length: float, saturates: bool = False, hardware: Hardware | None = None):
        super().__init__()
        self.register_buffer("length", torch.tensor(float(length)))
        self.saturates, self.hardware = saturates, hardware or Hardware()
        self.peak: Tensor | None = None  # largest activation of the last batch of the training
        self.counts = False  # whether `spikes` is computed in training
        self.spikes: Tensor | None = None  # per image of the last batch, smooth
        self._wired: tuple[nn.Module | None, SpikeTimes | None] = None, None  # in a tuple: not submodules

    def wire(self, synapses: nn.Module, source: "SpikeTimes | None") -> None:
        """Tell the layer whose potentials it reads, and the layer of its sources (None: the input)."""
        self._wired = synapses, source

    def forward(self, x: Tensor) -> Tensor:
        """Potentials at t_min with the bias (B, N) or (B, C, H, W) -> leads."""
        if not self.training:
            return _ending(x.relu(), self.length.to(x)) if self.saturates else x.relu()
        factor, sums = self._rescaling() if self.hardware.neurons == "alpha" else (None, None)
        x = x if factor is None else x / _per_channel(factor, x)
        self.peak, length = x.detach().amax(), self.length.to(x)
        if self.counts:
            self.spikes = smooth_count(x.relu())
        if self.hardware.alpha_noise:
            x = self._off_drive(x, length, sums)
        leads = self.hardware.disturbed(_ending(x.relu(), length), length)
        return leads if factor is None else leads * _per_channel(factor, x)

    def scaled(self, x: Tensor) -> Tensor:
        """Potentials in the units of the interval: for neurons="alpha" divided as the exact mapping rescales the neuron."""
        return x / _per_channel(self._rescaling()[0], x) if self.hardware.neurons == "alpha" else x

    def _rescaling(self) -> tuple[Tensor, Tensor]:
        """By what the exact mapping divides each neuron or channel, without gradient, and its sums of weights then: (N,)."""
        synapses, source = self._wired
        assert isinstance(synapses, nn.Linear | nn.Conv2d)
        weight = synapses.weight
        if source is not None:
            before = source._rescaling()[0].detach()
            if isinstance(synapses, nn.Linear):
                weight = weight * before.repeat_interleave(synapses.in_features // len(before))
            else:
                grouped = before.view(synapses.groups, 1, -1).expand(-1, synapses.out_channels // synapses.groups, -1)
                weight = weight * grouped.flatten(0, 1)[..., None, None]
        sums = weight.flatten(1).sum(1)
        low, high = BOUNDS
        factor = torch.maximum(sums / high, sums / low).clamp(min=1).detach()
        return factor, sums / factor

    def _off_drive(self, x: Tensor, length: Tensor, sums: Tensor | None) -> Tensor:
        """The leads if the drive of each neuron or channel is 1 + e instead of 1, before the bounds.

        b1: V rises from t_min on with slope 1 + e: (x + e L) / (1 + e). alpha: with L' the interval of the sources and
        g = 1 - sum_j W_ij, (x + e g (L' + L)) / (1 + e g), from `respike.neurons.ttfs` with J = W / g.
        """
        e = self.hardware.alpha_noise * torch.randn(x.shape[1], dtype=x.dtype, device=x.device)
        if sums is not None:
            source = self._wired[1]
            e = e * (1 - sums)
            length = length + (1.0 if source is None else source.length.to(x))
        e = _per_channel(e, x)
        return (x + e * length) / (1 + e)

    def widen(self, gamma: float) -> None:
        """After a batch: t_max - t_min becomes gamma times the batch's largest activation, if that is longer."""
        if self.peak is not None and not self.saturates:
            self.length.copy_(torch.maximum(self.length, gamma * self.peak.to(self.length)))

    def extra_repr(self) -> str:
        """The settings, for print(net)."""
        return f"saturates={self.saturates}, {self.hardware}"
