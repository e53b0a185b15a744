"""Networks that compute with numbers of a few bits: post-training quantization, and rounded weights in training."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from respike.networks.copying import eval_copy


def on_grid(values: Tensor, step: Tensor | float, low: int, high: int) -> Tensor:
    """Values rounded to k step, k from low to high. The gradient is straight-through between the ends, 0 beyond them."""
    step = torch.as_tensor(step, dtype=values.dtype, device=values.device)
    if not (torch.is_grad_enabled() and values.requires_grad):  # the same numbers in fewer passes
        return (values / step).round_().clamp_(low, high).mul_(step)
    inside = values.clamp(low * step, high * step)
    return (inside.detach() / step).round() * step + (inside - inside.detach())


def rounded_weights(weight: Tensor, bits: int, weight_range: Sequence[float] | None) -> Tensor:
    """Weights on an asymmetric grid of 2^bits numbers, one of which is 0; straight-through within the grid's ends.

    weight_range: the ends before the grid is shifted by less than half a step to hold 0; None: those of the weights.
    """
    if weight_range is None:
        weight_range = min(float(weight.detach().min()), 0.0), max(float(weight.detach().max()), 0.0)
    low, high = weight_range
    step = (high - low) / (2**bits - 1) or 1.0
    zero = round(-low / step)
    return on_grid(weight, step, -zero, 2**bits - 1 - zero)


def quantized(net: nn.Module, images: Tensor, bits: int) -> nn.Module:
    """A copy in eval mode that computes with rounded numbers: post-training quantization of every Linear and Conv2d.

    Weights to signed integers of so many bits, with one scale per output channel; what each layer reads, image or activations,
    to integers of so many bits, unsigned where none is negative, with one scale per layer: that of the largest magnitude on
    `images` (B, C, H, W). Biases, sums of branches and batch norms stay in floating point.
    """
    copy = eval_copy(net)
    weighted = [module for module in copy.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    ranges: dict[nn.Module, tuple[float, float]] = dict.fromkeys(weighted, (0.0, 0.0))

    def measure(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        low, high = torch.aminmax(inputs[0])
        ranges[module] = min(ranges[module][0], float(low)), max(ranges[module][1], float(high))

    hooks = [module.register_forward_pre_hook(measure) for module in weighted]
    with torch.inference_mode():
        copy(images)
    for hook in hooks:
        hook.remove()
    top = max(2 ** (bits - 1) - 1, 1)
    for module in weighted:
        rows = module.weight.detach().flatten(1)
        step = rows.abs().amax(1, keepdim=True).clamp(min=torch.finfo(rows.dtype).tiny) / top
        module.weight = nn.Parameter(on_grid(rows, step, -top, top).view_as(module.weight), requires_grad=False)
        module.register_forward_pre_hook(_rounding(*ranges[module], bits))
    return copy


def _rounding(low: float, high: float, bits: int) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    """A hook that rounds and clips the input of a module."""
    top = 2**bits - 1 if low >= 0 else max(2 ** (bits - 1) - 1, 1)
    step = (max(high, -low) or 1.0) / top

    def rounded(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (on_grid(inputs[0], step, 0 if low >= 0 else -top, top), *inputs[1:])

    return rounded
