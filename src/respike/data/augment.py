"""Random augmentation of training batches; the random change is drawn for each image separately. B images, C channels."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from respike.data.pixels import to_unit


def crop_and_flip(images: Tensor, padding: int, flip: bool) -> Tensor:
    """`random_crop`, then a horizontal flip with probability 1/2 (if `flip`): (B, C, H, W) -> (B, C, H, W)."""
    cropped = random_crop(images, padding)
    flipped = flip & (torch.rand(len(images)) < 0.5)
    return torch.where(flipped[:, None, None, None], cropped.flip(3), cropped)


def random_crop(images: Tensor, padding: int) -> Tensor:
    """Pad every side with `padding` zeros and crop the original size at a random position: (B, C, H, W) -> the same."""
    batch, channels, height, width = images.shape
    padded = F.pad(images, (padding, padding, padding, padding))
    top, left = torch.randint(0, 2 * padding + 1, (2, batch, 1))
    rows = (top + torch.arange(height))[:, None, :, None]  # (B, 1, H, 1)
    columns = (left + torch.arange(width))[:, None, None, :]  # (B, 1, 1, W)
    return padded[torch.arange(batch)[:, None, None, None], torch.arange(channels)[:, None, None], rows, columns]


def autoaugment_and_cutout(
    images: Tensor, padding: int, flip: bool, hole: int, fill: Sequence[float] | None = None
) -> Tensor:
    """`crop_and_flip`, the AutoAugment policy of CIFAR-10 (Cubuk et al. 2019), `cutout`: (B, 3, H, W) in [0, 1] -> the same.

    The augmentation of Bu et al. 2022, who cut out of standardized images: fill is the mean of the pixels of each channel.
    """
    from torchvision.transforms import AutoAugmentPolicy, v2  # takes seconds

    policy = v2.AutoAugment(AutoAugmentPolicy.CIFAR10)
    pixels = (crop_and_flip(images, padding, flip) * 255).round().to(torch.uint8)
    return cutout(to_unit(torch.stack([policy(image) for image in pixels])), hole, fill)


def cutout(images: Tensor, hole: int, fill: Sequence[float] | None = None) -> Tensor:
    """Set a square of `hole` pixels around a random place to `fill` (by channel; zeros by default): (B, C, H, W) -> the same.

    The square is cut off at the border (DeVries and Taylor 2017).
    """
    batch, channels, height, width = images.shape
    middle_y, middle_x = torch.randint(0, height, (batch, 1)), torch.randint(0, width, (batch, 1))
    rows, columns = torch.arange(height) - middle_y, torch.arange(width) - middle_x
    inside_y, inside_x = ((-(hole // 2) <= part) & (part < hole - hole // 2) for part in (rows, columns))
    inside = (inside_y[:, :, None] & inside_x[:, None, :])[:, None]
    return torch.where(inside, torch.tensor(fill or [0.0] * channels).view(-1, 1, 1), images)


def shift_rotate_flip(images: Tensor, shift: float, degrees: float, flip: bool) -> Tensor:
    """Random shift, rotation and (if `flip`) horizontal flip with probability 1/2: (B, C, H, W) -> (B, C, H, W).

    shift: at most this share of the side, in either direction. degrees: at most this angle, in either direction.
    Interpolates between pixels; outside the image the nearest pixel is repeated (Keras' ImageDataGenerator).
    """
    batch, height, width = images.shape[0], *images.shape[2:]
    angle, down, right = 2 * torch.rand(3, batch) - 1
    angle, down, right = angle * math.radians(degrees), down * 2 * shift, right * 2 * shift  # grid sides have length 2
    mirror = 1 - 2 * (torch.rand(batch) < 0.5).float() if flip else torch.ones(batch)
    cos, sin, ratio = angle.cos(), angle.sin(), height / width
    rows = [mirror * cos, -mirror * sin * ratio, right, sin / ratio, cos, down]
    grid = F.affine_grid(torch.stack(rows, 1).view(batch, 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
