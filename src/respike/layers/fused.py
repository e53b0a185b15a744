"""tdBN + (shortcut) + LIF as one differentiable operation, in compiled C or Triton. x_TBCHW, time first.

Saved for the backward pass: the outputs of the convolutions and the statistics. Potentials and spikes are computed again.
"""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from respike.layers.kernels import compiled, triton_backend
from respike.layers.kernels.layout import channels_last
from respike.layers.tdbn import TdBN, sum_over_processes
from respike.neurons.neuron import Neuron
from respike.system.distributed import world_size
from respike.system.memory import keep_freed_memory


@dataclass
class Statistics:
    """Mean and biased variance of one tdBN in one forward pass: float64 (C,), over `count` numbers per channel."""

    mean: Tensor
    var: Tensor
    count: float | Tensor


def choose_kernels(
    backend: str, neuron: Neuron, steps: int, norms: list[nn.Module], y: Tensor, shortcut: Tensor | None
) -> ModuleType | None:
    """The kernels for this call, None if no kernel supports it. Arguments as in `norm_lif`.

    They support maps of one dtype, with a tdBN in front of the neurons, or, without gradients, one Identity.
    """
    same = shortcut is None or (shortcut.dtype == y.dtype and shortcut.shape == (steps, *y.shape[1:]))
    constant = len(y) == 1 and shortcut is None
    if backend == "torch" or y.dim() != 5 or not same or not (len(y) == steps or constant):
        return None
    if torch.is_grad_enabled() and not norms[0].training:  # rare: left to autograd
        return None
    if not _folded(norms) and not all(isinstance(norm, TdBN) and norm.weight.dtype == torch.float32 for norm in norms):
        return None
    chosen = triton_backend if backend == "triton" or y.device.type == "cuda" else compiled
    return chosen if chosen.can_run(neuron, steps, y) else None


def _folded(norms: list[nn.Module]) -> bool:
    return len(norms) == 1 and isinstance(norms[0], nn.Identity) and not torch.is_grad_enabled()


def norm_lif(
    chosen: ModuleType, neuron: Neuron, steps: int, norms: list[nn.Module], y: Tensor, shortcut: Tensor | None
) -> Tensor:
    """Spikes (T, B, C, H, W) of y (T or 1, B, C, H, W). norms: of y, and of the shortcut if it is normalized."""
    keep_freed_memory()
    if _folded(norms):
        identity = y.new_ones(y.shape[2], dtype=torch.float32), y.new_zeros(y.shape[2], dtype=torch.float32)
        shortcut = None if shortcut is None else channels_last(shortcut)
        return chosen.NormLIFKernel(neuron, steps, channels_last(y), shortcut, [identity]).spikes()
    parameters = [parameter for norm in norms for parameter in (norm.weight, norm.bias)]
    return _NormLIF.apply(chosen, neuron, steps, norms, y, shortcut, *parameters)


def _statistics(chosen: ModuleType, norm: TdBN, neuron: Neuron, steps: int, y: Tensor) -> Statistics:
    """The statistics of y over all processes, by which the running averages are updated; in eval mode the running averages."""
    if not norm.training:
        return Statistics(norm.running_mean.double(), norm.running_var.double(), 1)
    mean, var = chosen.moments(neuron, steps, y)
    count: float | Tensor = steps * y[0].numel() / y.shape[2]
    if world_size() > 1:
        local = count * torch.stack([torch.ones_like(mean), mean, var + mean**2])
        counts, sums, squares = sum_over_processes(local)
        count, mean = counts[0], sums / counts
        var = squares / counts - mean**2
    norm.track(mean, var, count)
    return Statistics(mean, var, count)


class _NormLIF(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, chosen: ModuleType, neuron: Neuron, steps: int, norms: list[TdBN], y: Tensor, shortcut: Tensor | None,
        *parameters: Tensor,
    ) -> Tensor:  # fmt: skip
        y, shortcut = channels_last(y), None if shortcut is None else channels_last(shortcut)
        maps = [y] if shortcut is None or len(norms) == 1 else [y, shortcut]
        statistics = [_statistics(chosen, norm, neuron, steps, x) for norm, x in zip(norms, maps, strict=True)]
        affine = [
            tuple(part.float() for part in norm.affine(found.mean, found.var))
            for norm, found in zip(norms, statistics, strict=True)
        ]
        ctx.kernels, ctx.neuron, ctx.steps, ctx.statistics, ctx.affine = chosen, neuron, steps, statistics, affine
        ctx.gains, ctx.epsilons = [norm.gain for norm in norms], [norm.eps for norm in norms]
        ctx.save_for_backward(y, shortcut)
        return chosen.NormLIFKernel(neuron, steps, y, shortcut, affine).spikes()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        y, shortcut = ctx.saved_tensors
        kernel = ctx.kernels.NormLIFKernel(ctx.neuron, ctx.steps, y, shortcut, ctx.affine)
        gradient = channels_last(gradient)
        means = torch.stack([ctx.statistics[0].mean, ctx.statistics[-1].mean]).float()  # of y, of the shortcut
        local, to_spikes = kernel.sums(gradient, means)
        total = sum_over_processes(local)
        slopes, offsets, to_parameters = [], [], []
        for i, (found, (scale, _)) in enumerate(zip(ctx.statistics, ctx.affine, strict=True)):
            inverse = 1 / torch.sqrt(found.var + ctx.epsilons[i])
            slopes.append(scale * inverse**2 * total[1 + i] / found.count)
            offsets.append(scale * total[0] / found.count)
            to_parameters += [(ctx.gains[i] * inverse * local[1 + i]).float(), local[0].float()]
        to_y, to_normed = kernel.gradients(gradient, means, torch.stack(slopes).float(), torch.stack(offsets).float())
        to_shortcut = to_spikes if to_normed is None else to_normed
        return None, None, None, None, to_y, to_shortcut, *to_parameters
