"""One hidden layer as a trial runs it: weights in the precision asked for, noise drawn. B images, N neurons, F inputs."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from respike.convert.ttfs_net import TTFSLayer
from respike.neurons.ttfs import surplus
from respike.precision import fastest_precision
from respike.simulate.ttfs.settings import TTFSSettings

SUM = 2.0**-23  # twice the rounding of a float32 operation: of each addition in a product


@dataclass(frozen=True)
class LayerProgram:
    """weight: J (N, ...F); alpha, slope (alpha + sum J), surplus, theta: float64, (N,) or (C, 1, 1) or (C, H, W);
    source_length, length: t_min - t_min_prev and t_max - t_min."""

    name: str
    synapses: nn.Linear | nn.Conv2d
    weight: Tensor
    alpha: Tensor
    slope: Tensor
    surplus: Tensor
    theta: Tensor
    source_length: float
    length: float

    def connect(self, leads: Tensor, weight: Tensor) -> Tensor:
        """sum_j weight_ij lead_j for leads (B, ...F), of the layer's own weights or others of their shape: (B, ...N)."""
        if isinstance(self.synapses, nn.Linear):
            return F.linear(leads, weight)
        conv = self.synapses
        return F.conv2d(leads, weight, None, conv.stride, conv.padding, conv.dilation, conv.groups)

    def drive(self, leads: Tensor) -> Tensor:
        """sum_j J_ij lead_j (B, ...N)."""
        return self.connect(leads, self.weight)

    def uncertain(self, leads: Tensor) -> Tensor:
        """Where the bound leaves open whether V stays below theta until the last input has come: bool (B, ...N).

        V(t) <= alpha (T - t_min_prev) + sum J+ (T - t_j) for t <= T, where T, the image's last input, is t_min or later. The
        product is taken in the fastest precision there is, and theta lowered by as much as its roundings may amount to.
        """
        fast = _fastest(leads)
        positive, alpha = self.weight.clamp(min=0), self.alpha.clamp(min=0)
        room = self.theta - alpha * self.source_length
        late = (-leads.flatten(1).amin(1)).clamp(min=0)  # T - t_min, (B,)
        if bool(late.any()):
            leads = leads.clamp(min=0)
            total = alpha + positive.double().flatten(1).sum(1).view(alpha.shape)
            room = room - late.double().view(-1, *[1] * total.ndim) * total
        # roundings to `fast` of both factors and of the result, and float32's of each addition
        margin = (1 + torch.finfo(fast).eps) ** 3 * (1 + (self.weight[0].numel() + 8) * SUM)
        excitation = self.connect(leads.to(fast), positive.to(fast))
        return (excitation >= _below(room / margin - 1e-30, fast)).logical_or_(self.slope <= 0)


def _fastest(leads: Tensor) -> torch.dtype:
    """The precision in which a product of these leads costs least; sums are float32's in any."""
    if leads.is_cuda:
        return leads.dtype
    return torch.bfloat16 if fastest_precision("cpu") == "bf16-mixed" else torch.float32


def _below(values: Tensor, dtype: torch.dtype) -> Tensor:
    """The values rounded to the dtype, never up."""
    rounded = values.to(dtype)
    return torch.where(rounded.double() > values, rounded.nextafter(torch.full_like(rounded, -torch.inf)), rounded)


def compile_layer(name: str, layer: TTFSLayer, settings: TTFSSettings) -> LayerProgram:
    """The layer in the settings' precision and trial."""
    weight = noisy_weight(name, layer.synapses.weight, settings)
    total = layer.total(weight)
    alpha = layer.alpha.double().expand(total.shape)
    if settings.alpha_noise:
        noise = settings.noise("alpha", name, torch.zeros(1, dtype=torch.int64), total.numel()).view(total.shape)
        alpha = alpha + settings.alpha_noise * noise.to(alpha.device)
    source_length, length = float(layer.t_min - layer.t_min_prev), float(layer.t_max - layer.t_min)
    theta = layer.theta.double()
    return LayerProgram(
        name,
        layer.synapses,
        weight.to(settings.dtype),
        alpha,
        alpha + total,
        surplus(theta, total, alpha, source_length, length),
        theta,
        source_length,
        length,
    )


def noisy_weight(name: str, weight: Tensor, settings: TTFSSettings) -> Tensor:
    """The weights (N, ...F) times 1 + weight_noise * z, z fixed for the trial; the weights themselves without noise."""
    if not settings.weight_noise:
        return weight
    z = settings.noise("weight", name, torch.arange(len(weight)), weight[0].numel()).view(weight.shape)
    return weight * (1 + settings.weight_noise * z.to(weight))
