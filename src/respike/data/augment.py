"""Random changes to training batches, each image its own draw, whole batches at a time. B images, C channels."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def crop_and_flip(images: Tensor, padding: int, flip: bool) -> Tensor:
    """`random_crop`, and every other image or none mirrored, left for right. (B, C, H, W), kept."""
    cropped = random_crop(images, padding)
    mirrored = flip & (torch.rand(len(images)) < 0.5)
    return torch.where(mirrored[:, None, None, None], cropped.flip(3), cropped)


def random_crop(images: Tensor, padding: int) -> Tensor:
    """Pad with zeros by `padding` on every side and cut the old size out at a random place. (B, C, H, W), kept."""
    batch, channels, height, width = images.shape
    padded = F.pad(images, (padding,) * 4)
    top, left = torch.randint(0, 2 * padding + 1, (2, batch, 1))
    rows = (top + torch.arange(height))[:, None, :, None]  # (B, 1, H, 1)
    columns = (left + torch.arange(width))[:, None, None, :]  # (B, 1, 1, W)
    return padded[torch.arange(batch)[:, None, None, None], torch.arange(channels)[:, None, None], rows, columns]


def shift_rotate_flip(images: Tensor, shift: float, degrees: float, flip: bool) -> Tensor:
    """Move by up to `shift` of the side, turn by up to `degrees`, to either side, and mirror every other image or none.

    (B, C, H, W), kept; between pixels it interpolates, and places from outside take the nearest pixel (Keras'
    ImageDataGenerator).
    """
    batch, height, width = images.shape[0], *images.shape[2:]
    angle, down, right = 2 * torch.rand(3, batch) - 1
    angle, down, right = angle * math.radians(degrees), down * 2 * shift, right * 2 * shift  # a side is 2 long
    mirror = 1 - 2 * (torch.rand(batch) < 0.5).float() if flip else torch.ones(batch)
    cos, sin, ratio = angle.cos(), angle.sin(), height / width
    rows = [mirror * cos, -mirror * sin * ratio, right, sin / ratio, cos, down]
    grid = F.affine_grid(torch.stack(rows, 1).view(batch, 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
