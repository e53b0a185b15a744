"""A ReLU network with weights and activations of a few bits, without training: the baseline of a spiking network."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from respike.networks.copying import eval_copy


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
    for module in weighted:
        rows = module.weight.detach().flatten(1)
        scale = rows.abs().amax(1).clamp(min=torch.finfo(rows.dtype).tiny) / max(2 ** (bits - 1) - 1, 1)
        rounded = ((rows / scale[:, None]).round() * scale[:, None]).view_as(module.weight)
        module.weight = nn.Parameter(rounded, requires_grad=False)
        module.register_forward_pre_hook(_rounding(*ranges[module], bits))
    return copy


def _rounding(low: float, high: float, bits: int) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    """A hook that rounds and clips the input of a module."""
    top = 2**bits - 1 if low >= 0 else max(2 ** (bits - 1) - 1, 1)
    scale = (max(high, -low) or 1.0) / top

    def rounded(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return ((inputs[0] / scale).round().clamp(0 if low >= 0 else -top, top) * scale, *inputs[1:])

    return rounded
