"""Which class is taken for which. B images, C classes."""

import torch
from torch import Tensor


def confusion(labels: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """Images counted by their class (row) and the class named (column): labels, predicted (B,) -> int64 (C, C)."""
    return torch.bincount(labels.long() * classes + predicted.long(), minlength=classes**2).view(classes, classes)


def row_shares(counts: Tensor) -> Tensor:
    """Counts (C, C) divided by the sum of their row, float64; the row of a class without images is 0."""
    return counts.double() / counts.sum(1, keepdim=True).clamp(min=1)
