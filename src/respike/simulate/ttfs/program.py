"""One hidden layer prepared for a trial: weights in the chosen precision, with noise. B images, N neurons, F inputs."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from respike.convert.exact.ttfs_net import B1Layer, TTFSLayer, TTFSNet
from respike.errors import InputError
from respike.neurons.ttfs import closed_form, surplus
from respike.simulate.connections import fan_out
from respike.simulate.ttfs.bounds import RoundedWeights, fast
from respike.simulate.ttfs.settings import TTFSSettings
from respike.system.precision import plain_sums

UNIT = 2.0**-24  # unit roundoff of float32
HUGE = 2.0**120  # sums below this do not overflow float32
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

    def uncertain(self, leads: Tensor, drive: Tensor | None = None) -> Tensor:
        """Pairs for which no bound proves that V stays below theta until the last input has arrived: bool (B, ...N).

        drive: that of the leads, computed in `plain_sums`. Where the processor multiplies 8-bit integers fast, they bound V.
        """
        if fast(self.synapses, leads):
            if drive is None:
                with plain_sums():
                    drive = self.drive(leads)
            rounded = (self.weight[0].numel() + 16) * torch.finfo(torch.float64).eps * self.theta.abs()
            found = self.rounded.open(leads, drive, self.theta - rounded, self.source_length)
            return found.logical_or_(self.slope <= 0)
        return self.uncertain_in_float32(leads)

    def uncertain_in_float32(self, leads: Tensor) -> Tensor:
        """`uncertain` by sums in float32, on any device.

        The first bound is V(t) <= alpha (T - t_min_prev) + sum J+ (T - t_j) for t <= T, where T is the image's last input, at
        t_min or later. Images with many unproved pairs are checked by `_between_marks` too. Sums are computed in float32, with
        the error bound of `Sums`; the rest in float64, with theta lowered by more than its rounding errors.
        """
        alpha, size = self.alpha.clamp(min=0), self.weight[0].numel()
        room, rounded = self.theta - alpha * self.source_length, self.theta.abs() + alpha * self.source_length
        late = (-leads.flatten(1).amin(1)).clamp(min=0)  # T - t_min, (B,)
        anything_late = bool(late.any())
        if anything_late:
            leads = leads.clamp(min=0)
            total = alpha + self.weight.clamp(min=0).double().flatten(1).sum(1).view(alpha.shape)
            total = late.double().view(-1, *[1] * total.ndim) * total
            room, rounded = room - total, rounded + total
        room = room - (size + 16) * torch.finfo(torch.float64).eps * rounded
        largest = leads.amax().double()
        with plain_sums():
            value = self.excitation(leads)
            found = ~(value < self.excitation.limit(room, largest))  # also where a sum is not finite
            crowded = (found.flatten(1).float().mean(1) > CROWDED).nonzero().flatten()
            if len(crowded) and not anything_late:
                found[crowded] &= self._between_marks(leads[crowded], value[crowded], alpha, room, largest)
        return found.logical_or_(self.slope <= 0)

    def _between_marks(self, leads: Tensor, value: Tensor, alpha: Tensor, room: Tensor, largest: Tensor) -> Tensor:
        """Pairs whose V may reach theta, by one bound between each two of the MARKS: bool (B, ...N). No input may be late.

        At a lead s = t_min - t the excitation is P(s) = sum J+ (lead_j - s)+, and the inhibition N(s) likewise; both decrease
        with s. So V <= alpha (t_min - a - t_min_prev) + P(a) - N(b) between two marks a < b, and without N after the last.
        value: P(0) as computed; largest: a bound on the leads.
        """
        up, down = self.excitation, self.inhibition
        lost, subtracted = up.lost(largest) + down.lost(largest), bool(down.sums.max() * largest < HUGE)
        found = torch.zeros_like(value, dtype=torch.bool)
        marks = [0.0, *(float(torch.tensor(m * self.source_length, dtype=torch.float32)) for m in MARKS)]
        for mark, following in zip(marks, [*marks[1:], None], strict=True):
            reach = room + alpha * mark
            value = up((leads - mark).clamp_(min=0)) if mark else value
            if following is None or not subtracted:
                found.logical_or_(~(value < up.limit(reach, largest)))
                continue
            top = (value * (1 + up.error)).sub_(down((leads - following).clamp_(min=0)).mul_(1 - down.error))
            found.logical_or_(~(top < _below(reach - lost, torch.float32)))
        return found

    def leads(self, drive: Tensor) -> Tensor:
        """Leads (B, ...N) of the layer's spikes if every input arrives before the crossing. drive: (B, ...N), overwritten."""
        leads = closed_form(drive, self.slope.to(drive), self.surplus.to(drive)).clamp_(min=0)
        if bool((self.slope <= 0).any()):
            leads.masked_fill_(self.slope <= 0, 0)
        return leads

    @cached_property
    def sums(self) -> tuple[Tensor, Tensor]:
        """sum J-, J- = max(-J, 0), and sum |J|: float64, (N,)."""
        flat = self.weight.double().flatten(1)
        return (-flat).clamp(min=0).sum(1), flat.abs().sum(1)

    @cached_property
    def rounded(self) -> RoundedWeights:
        """The weights of the bounds in 8-bit integers."""
        return RoundedWeights(self.synapses, self.weight, self.alpha)

    @cached_property
    def excitation(self) -> "Sums":
        """sum J+ x."""
        return Sums(self.synapses, self.weight.clamp(min=0))

    @cached_property
    def inhibition(self) -> "Sums":
        """sum J- x, J- = max(-J, 0)."""
        return Sums(self.synapses, (-self.weight).clamp(min=0))


class B1Program(LayerProgram):
    """A layer of B1 neurons: alpha is their slope from t_min on, surplus is V at t_max minus theta without input."""

    def drive(self, leads: Tensor) -> Tensor:
        """V at t_min, sum_j W_ij lead_j (B, ...N); a later spike has no effect."""
        return super().drive(leads.clamp(min=0))

    def leads(self, drive: Tensor) -> Tensor:
        """Leads (B, ...N) of the layer's spikes; where V has reached theta by t_min, the spike is at t_min."""
        silent = self.slope <= 0  # by noise: such a neuron spikes only if it has reached theta by then
        reached = drive >= self.theta.to(drive) if bool(silent.any()) else None
        leads = super().leads(drive).clamp_(max=self.length)
        return leads if reached is None else leads.masked_fill_(reached, self.length)

    def uncertain(self, leads: Tensor, drive: Tensor | None = None) -> Tensor:
        """Pairs for which no bound proves that V stays below theta until t_min: bool (B, ...N)."""
        return self._reading.uncertain(leads.clamp(min=0), drive).logical_or_(self.slope <= 0)

    @cached_property
    def _reading(self) -> LayerProgram:
        zeros = torch.zeros_like(self.alpha)
        return LayerProgram(
            self.name, self.synapses, self.weight, zeros, zeros + 1, zeros, self.theta, self.source_length, self.length
        )


class Sums:
    """Sums S = sum_j w_ij x_j of weights and leads that are 0 or more, in float32, and how far from S they can be.

    The computed sum of n products, in any order, is S (1 + d) with |d| <= g(n) = n u / (1 - n u), u = 2^-24, if nothing
    underflows (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed. 2002, section 3.1); rounding w and x to float32
    and subtracting a mark from x make it g(n + 3) (Lemma 3.3). Underflow, also where results below 2^-126 become 0, loses at
    most `lost`. So computed (1 - error) - lost < S < computed (1 + error) + lost, where `error` has some u to spare for the
    roundings of these products themselves. A sum that overflows is inf or NaN.
    """

    def __init__(self, synapses: nn.Linear | nn.Conv2d, weight: Tensor):
        """weight: (N, ...F); sums: of each neuron's weights, (N,) or (N, 1, 1), float64."""
        self.synapses, self.weight, self.size = synapses, weight.float(), weight[0].numel()
        self.sums = weight.double().flatten(1).sum(1).view(-1, *[1] * (weight.ndim - 2))
        share = (self.size + 16) * UNIT
        self.error = share / (1 - 2 * share) if share < 0.25 else math.nan  # proves nothing: 4 million inputs

    def __call__(self, leads: Tensor) -> Tensor:
        """The computed sums (B, ...N) for leads (B, ...F)."""
        return connect(self.synapses, leads.float(), self.weight)

    def lost(self, largest: Tensor) -> Tensor:
        """The loss to underflow for leads up to `largest`, in the shape of `sums`."""
        return 2.0**-120 * (self.sums + self.size * (1 + largest))

    def limit(self, room: Tensor, largest: Tensor) -> Tensor:
        """Where a computed sum is below this float32 number, S is below `room` (float64)."""
        return _below(room * (1 - self.error) - self.lost(largest), torch.float32)


def connect(synapses: nn.Linear | nn.Conv2d, leads: Tensor, weight: Tensor) -> Tensor:
    """sum_j weight_ij lead_j for leads (B, ...F), with weights of the shape of the synapses': (B, ...N), contiguous."""
    if isinstance(synapses, nn.Linear):
        return F.linear(leads, weight)
    made = F.conv2d(leads, weight, None, synapses.stride, synapses.padding, synapses.dilation, synapses.groups)
    return made.contiguous()  # of channels-last leads or weights it would have their layout


def _below(values: Tensor, dtype: torch.dtype) -> Tensor:
    """The values rounded to the dtype, never up."""
    rounded = values.to(dtype)
    return torch.where(rounded.double() > values, rounded.nextafter(torch.full_like(rounded, -torch.inf)), rounded)


def network_shapes(snn: TTFSNet, input_shape: torch.Size) -> dict[str, tuple[torch.Size, torch.Size]]:
    """Per layer the shapes, without the batch, of what its synapses read and of its neurons, for images (C, H, W).

    Raises InputError where such images do not fit.
    """
    weight = snn.output.synapses.weight
    values, shapes = {"input": torch.zeros(1, *input_shape, dtype=weight.dtype, device=weight.device)}, {}
    with torch.inference_mode():
        for name, layer in snn.layers.items():
            try:
                inputs = snn.inputs(values, name)
                values[name] = layer.synapses(inputs)
            except RuntimeError as error:
                reason = str(error).splitlines()[0]
                raise InputError(
                    f"images of shape {tuple(input_shape)} do not fit the network at layer '{name}' ({reason})"
                ) from error
            shapes[name] = inputs.shape[1:], values[name].shape[1:]
    return shapes


def network_connections(snn: TTFSNet, input_shape: torch.Size) -> dict[str, tuple[Tensor, int]]:
    """Per layer, for images (C, H, W): how many synapses each input has, int64 of the shape of the inputs, and the
    multiply-accumulates of the ReLU network that they stand for."""
    shapes, found = network_shapes(snn, input_shape), {}
    ones = {"input": torch.ones(1, *input_shape, dtype=torch.float64, device=snn.output.synapses.weight.device)}
    for name, layer in snn.layers.items():
        inputs, outputs = shapes[name]
        ones[name] = torch.ones(1, *outputs, dtype=torch.float64, device=ones["input"].device)
        if layer.macs is None:
            reached = fan_out([layer.synapses], inputs)
            found[name] = reached, int(reached.sum())
            continue
        with torch.inference_mode(False), torch.enable_grad():
            every = torch.ones(1, *inputs, dtype=torch.float64, device=ones["input"].device, requires_grad=True)
            summed = connect(layer.synapses, every, (layer.macs > 0).double()).sum()
            (reached,) = torch.autograd.grad(summed, every)
        with torch.no_grad():  # padding among the inputs is none of the ReLU network's products
            macs = connect(layer.synapses, snn.inputs(ones, name), layer.macs.double()).sum()
        found[name] = reached[0].round().long(), round(float(macs))
    return found


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
    if isinstance(layer, B1Layer):
        rise, weight = alpha * length - theta, weight.to(settings.dtype)
        return B1Program(name, layer.synapses, weight, alpha, alpha, rise, theta, source_length, length)
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
