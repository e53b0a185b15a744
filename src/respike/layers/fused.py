"""tdBN + (shortcut) + LIF as one differentiable operation on the compiled kernels. x_TBCHW, time first.

Kept for the backward pass: the convolutions' outputs and the statistics. Potentials and spikes are integrated again.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from respike.layers.kernels.compiled import NormLIFKernel, built, channels_last, moments
from respike.layers.tdbn import TdBN, sum_of_ranks
from respike.memory import keep_freed_memory
from respike.neurons.lif import LIF


@dataclass
class Statistics:
    """Of one tdBN in one forward pass: float64 (C,), of `count` numbers a channel; batch: whether they depend on y."""

    mean: Tensor
    var: Tensor
    count: float
    batch: bool


def runnable(neuron: LIF, steps: int, norms: list[nn.Module], y: Tensor, shortcut: Tensor | None) -> bool:
    """Whether the kernels can do it: maps on a CPU, of one dtype that they know, with tdBNs in front of the neurons."""
    same = shortcut is None or (shortcut.dtype == y.dtype and shortcut.shape == (steps, *y.shape[1:]))
    known = all(isinstance(norm, TdBN) and norm.weight.dtype == torch.float32 for norm in norms)
    still = len(y) == 1 != steps and shortcut is None
    learns = torch.is_grad_enabled() and not norms[0].training  # rare, and left to autograd
    return (
        y.dim() == 5 and y.device.type == "cpu" and same and known and (len(y) == steps or still) and not learns
        and built(neuron, steps, y.dtype) is not None
    )  # fmt: skip


def norm_lif(neuron: LIF, steps: int, norms: list[TdBN], y: Tensor, shortcut: Tensor | None) -> Tensor:
    """Spikes (T, B, C, H, W) of y (T or 1, B, C, H, W): norms[0] is of y, norms[1], if there, of the shortcut."""
    keep_freed_memory()
    parameters = [parameter for norm in norms for parameter in (norm.weight, norm.bias)]
    return _NormLIF.apply(neuron, steps, norms, y, shortcut, *parameters)


def _statistics(norm: TdBN, neuron: LIF, steps: int, y: Tensor) -> Statistics:
    """Those of y over all ranks, which the running averages follow; or the running ones in eval mode."""
    if not norm.training:
        return Statistics(norm.running_mean.double(), norm.running_var.double(), 1, False)
    mean, var = moments(built(neuron, steps, y.dtype), y)
    own = torch.tensor([steps * y[0].numel() / y.shape[2]], dtype=torch.float64)
    whole = sum_of_ranks(torch.cat([own, own * mean, own * (var + mean**2)]))
    if whole[0] != own[0]:
        _, mean, square = whole.split([1, len(mean), len(mean)])
        mean = mean / whole[0]
        var = square / whole[0] - mean**2
    norm.track(mean, var, float(whole[0]))
    return Statistics(mean, var, float(whole[0]), True)


class _NormLIF(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, neuron: LIF, steps: int, norms: list[TdBN], y: Tensor, shortcut: Tensor | None, *parameters: Tensor
    ) -> Tensor:
        y, shortcut = channels_last(y), None if shortcut is None else channels_last(shortcut)
        maps = [y, shortcut][: len(norms)]
        statistics = [_statistics(norm, neuron, steps, x) for norm, x in zip(norms, maps, strict=True)]
        affine = [
            tuple(part.float() for part in norm.affine(found.mean, found.var))
            for norm, found in zip(norms, statistics, strict=True)
        ]
        ctx.neuron, ctx.steps, ctx.statistics, ctx.affine = neuron, steps, statistics, affine
        ctx.gains, ctx.epsilons = [norm.gain for norm in norms], [norm.eps for norm in norms]
        ctx.save_for_backward(y, shortcut)
        return NormLIFKernel(neuron, steps, y, shortcut, affine).spikes()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        y, shortcut = ctx.saved_tensors
        kernel, gradient = NormLIFKernel(ctx.neuron, ctx.steps, y, shortcut, ctx.affine), channels_last(gradient)
        means = torch.stack([found.mean for found in ctx.statistics] * 2)[:2].float()
        own, to_spikes = kernel.sums(gradient, means)
        whole, slopes, offsets, to_parameters = sum_of_ranks(own), [], [], []
        for i, (found, (scale, _)) in enumerate(zip(ctx.statistics, ctx.affine, strict=True)):
            inverse = 1 / torch.sqrt(found.var + ctx.epsilons[i])
            slopes.append(scale * inverse**2 * whole[1 + i] / found.count)
            offsets.append(scale * whole[0] / found.count)
            to_parameters += [(ctx.gains[i] * inverse * own[1 + i]).float(), own[0].float()]
        to_y, to_normed = kernel.gradients(gradient, means, *(torch.stack(x).float() for x in (slopes, offsets)))
        return None, None, None, to_y, to_spikes if to_normed is None else to_normed, *to_parameters
