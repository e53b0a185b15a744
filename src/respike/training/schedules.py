"""Learning-rate schedules over the whole training: (optimizer, total_steps) -> scheduler stepped once per batch."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, LRScheduler, OneCycleLR, StepLR


def one_cycle(optimizer: Optimizer, total_steps: int, max_lr: float) -> LRScheduler:
    """Rise to max_lr over the first 30 % of the steps, then fall to almost nothing (Smith 2018)."""
    return OneCycleLR(optimizer, max_lr=max_lr, total_steps=total_steps)


def cosine(optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """Half a cosine from the optimizer's learning rate to 0."""
    return CosineAnnealingLR(optimizer, T_max=total_steps)


def exponential(optimizer: Optimizer, total_steps: int, factor: float, every: int) -> LRScheduler:
    """Falls by `factor` every so many steps, a little at each (Keras' ExponentialDecay)."""
    return ExponentialLR(optimizer, gamma=factor ** (1 / every))


def staircase(optimizer: Optimizer, total_steps: int, factor: float, every: int, epochs: int) -> LRScheduler:
    """Multiplied by `factor` every so many of the training's epochs, all at once."""
    return StepLR(optimizer, step_size=max(1, total_steps * every // epochs), gamma=factor)
