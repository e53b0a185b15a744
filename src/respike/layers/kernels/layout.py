"""The memory layout of all kernels: channels last, so that a row holds the channels of one place. x_TBCHW."""

import torch
from torch import Tensor


def channels_last(x: Tensor) -> Tensor:
    """x (T, B, C, H, W) with its memory in the order (T, B, H, W, C), copied if necessary."""
    return x.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)


def empty_like(x: Tensor, steps: int) -> Tensor:
    """An empty (steps, B, C, H, W) with channels last."""
    _, b, c, h, w = x.shape
    return torch.empty(steps, b, h, w, c, dtype=x.dtype, device=x.device).permute(0, 1, 4, 2, 3)
