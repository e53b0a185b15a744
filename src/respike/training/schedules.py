"""Learning-rate schedules over a whole training: (optimizer, total_steps) -> scheduler, stepped once per batch."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, LambdaLR, LRScheduler, OneCycleLR, StepLR


def one_cycle(optimizer: Optimizer, total_steps: int, max_lr: float) -> LRScheduler:
    """Rises to max_lr over the first 30 % of the steps, then falls to almost 0 (Smith 2018)."""
    return OneCycleLR(optimizer, max_lr=max_lr, total_steps=total_steps)


def cosine(optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """Falls from the optimizer's learning rate to 0 along half a cosine."""
    return CosineAnnealingLR(optimizer, T_max=total_steps)


def cosine_by_epoch(optimizer: Optimizer, total_steps: int, epochs: int) -> LRScheduler:
    """As `cosine`, in a training of `epochs` epochs, during each of which it is constant."""
    return LambdaLR(optimizer, lambda step: (1 + math.cos(math.pi * (step * epochs // total_steps) / epochs)) / 2)


def exponential(optimizer: Optimizer, total_steps: int, factor: float, every: int) -> LRScheduler:
    """Falls continuously, by `factor` in every `every` steps (Keras' ExponentialDecay)."""
    return ExponentialLR(optimizer, gamma=factor ** (1 / every))


def staircase(optimizer: Optimizer, total_steps: int, factor: float, every: int, epochs: int) -> LRScheduler:
    """Is multiplied by `factor` after every `every` epochs of a training of `epochs` epochs."""
    return StepLR(optimizer, step_size=max(1, total_steps * every // epochs), gamma=factor)
