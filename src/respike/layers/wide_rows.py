"""Convolutions of small maps with several images side by side: oneDNN's AMX kernels compute rows of 16 places at a time."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH = 32  # places of a row of images: two tiles
NARROW = 16  # maps of at least this many columns fill a tile alone


def convolve(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """conv(x) of images (B, C, H, W), in training with bfloat16 on AMX by `in_wide_rows` where maps are narrow."""
    return in_wide_rows(conv, x) if _are_slow(conv, x) else conv(x)


def _are_slow(conv: nn.Conv2d, x: Tensor) -> bool:
    return (
        x.shape[-1] < NARROW
        and conv.kernel_size == (3, 3)
        and torch.is_grad_enabled()
        and x.device.type == "cpu"
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
        and bool(torch.cpu.get_capabilities().get("amx_bf16"))
    )


def in_wide_rows(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """conv(x) with as many images (B, C, H, W) in a row as fit into WIDTH columns and divide B, and zeros between them.

    For convolutions whose padding is half of their kernel: the zeros are the padding of the images on both sides.
    """
    b, c, h, w = x.shape
    stride = conv.stride[1]
    slot = -(-(w + conv.kernel_size[1] // 2) // stride) * stride  # columns of an image and of the zeros behind it
    images = next((k for k in range(WIDTH // slot, 1, -1) if b % k == 0), 1)
    if images == 1:
        return conv(x)
    rows = F.pad(x.permute(0, 2, 3, 1), (0, 0, 0, slot - w)).view(b // images, images, h, slot, c)
    rows = rows.transpose(1, 2).reshape(b // images, h, images * slot, c)
    y = conv(rows.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # (B / images, H', images * slot', C')
    y = y.unflatten(2, (images, slot // stride))[:, :, :, : -(-w // stride)]
    return y.transpose(1, 2).flatten(0, 1).permute(0, 3, 1, 2)
