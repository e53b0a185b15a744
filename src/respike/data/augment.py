"""Random changes to training batches, each image its own draw, whole batches at a time. B images, C channels."""

import torch
import torch.nn.functional as F
from torch import Tensor


def random_crop(images: Tensor, padding: int) -> Tensor:
    """Pad with zeros by `padding` on every side and cut the old size out at a random place. (B, C, H, W), kept."""
    batch, channels, height, width = images.shape
    padded = F.pad(images, (padding,) * 4)
    top, left = torch.randint(0, 2 * padding + 1, (2, batch, 1))
    rows = (top + torch.arange(height))[:, None, :, None]  # (B, 1, H, 1)
    columns = (left + torch.arange(width))[:, None, None, :]  # (B, 1, 1, W)
    return padded[torch.arange(batch)[:, None, None, None], torch.arange(channels)[:, None, None], rows, columns]
