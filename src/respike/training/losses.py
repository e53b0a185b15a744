"""Training losses. B images, C classes."""

import torch.nn.functional as F
from torch import Tensor


def half_squared_error(outputs: Tensor, labels: Tensor) -> Tensor:
    """1/2 sum over classes of (output - one-hot target)^2, mean over the batch: (B, C), (B,) -> ().

    The loss of Diehl et al. 2015, and of Wu et al. 2018 with firing rates as outputs.
    """
    targets = F.one_hot(labels, outputs.shape[1]).to(outputs.dtype)
    return 0.5 * (outputs - targets).square().sum(1).mean()
