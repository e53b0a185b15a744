"""One hidden layer prepared for a trial: weights in the chosen precision, with noise. B images, N neurons, F inputs."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from respike.convert.exact.ttfs_net import TTFSLayer, TTFSNet
from respike.errors import InputError
from respike.neurons.ttfs import surplus
from respike.simulate.ttfs.settings import TTFSSettings
from respike.system.precision import fastest_precision

SUM = 2.0**-23  # twice the rounding error of a float32 addition
CROWDED = 0.005  # share of unproved pairs above which an image is checked by the second bound
MARKS = (0.01, 0.04, 0.12)  # shares of the source's interval: most activations are far below the largest


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

    def drive(self, leads: Tensor) -> Tensor:
        """sum_j J_ij lead_j (B, ...N)."""
        return connect(self.synapses, leads, self.weight)

    def uncertain(self, leads: Tensor) -> Tensor:
        """Pairs for which no bound proves that V stays below theta until the last input has arrived: bool (B, ...N).

        The first bound is V(t) <= alpha (T - t_min_prev) + sum J+ (T - t_j) for t <= T, where T is the image's last input, at
        t_min or later. Images with many unproved pairs are checked by `_between_marks` too. Products are computed in the
        fastest precision, and theta is lowered by a bound on their rounding errors.
        """
        fast = _fastest(leads)
        positive, alpha = self.weight.clamp(min=0).to(fast), self.alpha.clamp(min=0)
        room = self.theta - alpha * self.source_length
        late = (-leads.flatten(1).amin(1)).clamp(min=0)  # T - t_min, (B,)
        anything_late = bool(late.any())
        if anything_late:
            leads = leads.clamp(min=0)
            total = alpha + self.weight.clamp(min=0).double().flatten(1).sum(1).view(alpha.shape)
            room = room - late.double().view(-1, *[1] * total.ndim) * total
        excitation = connect(self.synapses, leads.to(fast), positive)
        found = excitation >= _below(room / self._margin(fast) - 1e-30, fast)
        crowded = (found.flatten(1).float().mean(1) > CROWDED).nonzero().flatten()
        if len(crowded) and not anything_late:
            found[crowded] &= self._between_marks(leads[crowded], excitation[crowded], positive, alpha, room)
        return found.logical_or_(self.slope <= 0)

    def _between_marks(
        self, leads: Tensor, excitation: Tensor, positive: Tensor, alpha: Tensor, room: Tensor
    ) -> Tensor:
        """Pairs whose V may reach theta, by one bound between each two of the MARKS: bool (B, ...N). No input may be late.

        At a lead s = t_min - t the excitation is P(s) = sum J+ (lead_j - s)+, and the inhibition N(s) likewise; both decrease
        with s. So V <= alpha (t_min - a - t_min_prev) + P(a) - N(b) between two marks a < b, and without N after the last.
        """
        fast, margin = positive.dtype, self._margin(positive.dtype)
        negative = (-self.weight).clamp(min=0).to(fast)
        found = torch.zeros_like(excitation, dtype=torch.bool)
        marks = [0.0, *(float(torch.tensor(m * self.source_length, dtype=torch.float32)) for m in MARKS)]
        for mark, following in zip(marks, [*marks[1:], None], strict=True):
            if mark:
                excitation = connect(self.synapses, (leads - mark).clamp_(min=0).to(fast), positive)
            top = excitation.float() * margin
            if following is not None:
                inhibition = connect(self.synapses, (leads - following).clamp_(min=0).to(fast), negative)
                top = top.sub_(inhibition.float() / margin)
            found.logical_or_(top >= _below(room + alpha * mark - 1e-30, torch.float32))
        return found

    def _margin(self, fast: torch.dtype) -> float:
        """Factor that bounds the rounding error of a product: twice that of both factors, the result and each addition."""
        return (1 + torch.finfo(fast).eps) ** 3 * (1 + (self.weight[0].numel() + 8) * SUM)


def connect(synapses: nn.Linear | nn.Conv2d, leads: Tensor, weight: Tensor) -> Tensor:
    """sum_j weight_ij lead_j for leads (B, ...F), with weights of the shape of the synapses': (B, ...N)."""
    if isinstance(synapses, nn.Linear):
        return F.linear(leads, weight)
    return F.conv2d(leads, weight, None, synapses.stride, synapses.padding, synapses.dilation, synapses.groups)


def _fastest(leads: Tensor) -> torch.dtype:
    """The fastest precision for a product of these leads; sums are float32 in each."""
    if leads.is_cuda:
        return leads.dtype
    return torch.bfloat16 if fastest_precision("cpu") == "bf16-mixed" else torch.float32


def _below(values: Tensor, dtype: torch.dtype) -> Tensor:
    """The values rounded to the dtype, never up."""
    rounded = values.to(dtype)
    return torch.where(rounded.double() > values, rounded.nextafter(torch.full_like(rounded, -torch.inf)), rounded)


def network_shapes(snn: TTFSNet, input_shape: torch.Size) -> dict[str, tuple[torch.Size, torch.Size]]:
    """Per layer the shapes, without the batch, of what its synapses read and of its neurons, for images (C, H, W).

    Raises InputError where such images do not fit.
    """
    weight = snn.output.synapses.weight
    values, shapes = torch.zeros(1, *input_shape, dtype=weight.dtype, device=weight.device), {}
    with torch.inference_mode():
        for name, layer in snn.layers.items():
            try:
                inputs = layer.path(values)
                values = layer.synapses(inputs)
            except RuntimeError as error:
                reason = str(error).splitlines()[0]
                raise InputError(
                    f"images of shape {tuple(input_shape)} do not fit the network at layer '{name}' ({reason})"
                ) from error
            shapes[name] = inputs.shape[1:], values.shape[1:]
    return shapes


def compile_layer(name: str, layer: TTFSLayer, settings: TTFSSettings) -> LayerProgram:
    """The layer in the precision and trial of the settings."""
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
    """The weights (N, ...F) times 1 + weight_noise * z, with z fixed for the trial."""
    if not settings.weight_noise:
        return weight
    z = settings.noise("weight", name, torch.arange(len(weight)), weight[0].numel()).view(weight.shape)
    return weight * (1 + settings.weight_noise * z.to(weight))
