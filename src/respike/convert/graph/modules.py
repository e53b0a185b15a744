"""Modules made of given weights, and the pairs of numbers in their settings."""

from typing import Any

import numpy as np
from torch import Tensor, nn


def pair(value: Any) -> tuple[int, int]:
    """The two whole numbers, of rows and columns, of a setting of a convolution or a pool, which may be given as one."""
    rows, columns = np.broadcast_to(np.asarray(value).reshape(-1), 2)
    return int(rows), int(columns)


def per_input(factor: Tensor, module: nn.Linear | nn.Conv2d) -> Tensor:
    """Factors (C,) of the inputs in the shape of the weights they multiply: (1, F) or (C', C / groups, 1, 1)."""
    if isinstance(module, nn.Linear):
        return factor[None]
    grouped = factor.view(module.groups, 1, -1).expand(-1, module.out_channels // module.groups, -1)
    return grouped.flatten(0, 1)[..., None, None]


def with_tensors(module: nn.Module, **tensors: Tensor | None) -> nn.Module:
    """A module on the meta device with these weights and buffers, in eval mode."""
    given = {name: tensor.detach() for name, tensor in tensors.items() if tensor is not None}
    module.load_state_dict(given, strict=False, assign=True)
    return module.eval()


def linear_of(weight: Tensor, bias: Tensor | None = None) -> nn.Module:
    """The linear layer with these weights (out, in), not copies of them."""
    outputs, inputs = weight.shape
    return with_tensors(nn.Linear(inputs, outputs, bias is not None, device="meta"), weight=weight, bias=bias)


def conv2d_of(
    weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> nn.Module:
    """The convolution with these weights (out, in / groups, height, width), not copies of them."""
    outputs, inputs, height, width = weight.shape
    made = nn.Conv2d(
        inputs * groups, outputs, (height, width), stride, padding, dilation, groups, bias is not None, device="meta"
    )
    return with_tensors(made, weight=weight, bias=bias)
