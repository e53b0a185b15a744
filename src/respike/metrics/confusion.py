"""Confusion matrices. B images, C classes."""

import torch
from torch import Tensor


def confusion(labels: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """Counts of images by true class (row) and predicted class (column): labels, predicted (B,) -> int64 (C, C)."""
    return torch.bincount(labels.long() * classes + predicted.long(), minlength=classes**2).view(classes, classes)


def row_shares(counts: Tensor) -> Tensor:
    """Counts (C, C) divided by the sum of their row: float64 (C, C). The row of a class without images is 0."""
    return counts.double() / counts.sum(1, keepdim=True).clamp(min=1)
