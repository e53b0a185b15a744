"""The integrate-and-fire neuron without leak (Diehl et al. 2015, section II-B). N neurons of any shape."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from respike.errors import InputError


def charge_(v: Tensor, drive: Tensor) -> Tensor:
    """v <- v + drive, in place. Shapes (...N)."""
    return v.add_(drive)


def fire_(spikes: Tensor, v: Tensor, threshold: float, strict: bool) -> Tensor:
    """spikes <- 1 where v >= threshold (v > threshold where strict), else 0, in place. Shapes (...N)."""
    return torch.gt(v, threshold, out=spikes) if strict else torch.ge(v, threshold, out=spikes)


def reset_to_zero_(v: Tensor, spikes: Tensor, threshold: float) -> Tensor:
    """Hard reset: v <- 0 where it fired, in place. Shapes (...N)."""
    return v.addcmul_(v, spikes, value=-1)


def reset_by_subtraction_(v: Tensor, spikes: Tensor, threshold: float) -> Tensor:
    """Soft reset: v <- v - threshold where it fired, in place. Shapes (...N)."""
    return v.sub_(spikes, alpha=threshold)


RESETS = {"zero": reset_to_zero_, "subtract": reset_by_subtraction_}


class State(NamedTuple):
    """What a layer carries from step to step: potential v (...N), steps still to wait (...N) or None without t_ref."""

    v: Tensor
    waiting: Tensor | None


@dataclass(frozen=True)
class IntegrateFire:
    """One kind of integrate-and-fire neuron.

    threshold: potential at which it fires; reset: "zero" or "subtract"; start: potential before the first step;
    blocked_steps: steps after a spike in which input is ignored and nothing fires; strict: fires only above the threshold
    (snnTorch, Norse, STBP) instead of at it (Diehl, SpikingJelly).
    """

    threshold: float = 1.0
    reset: str = "zero"
    start: float = 0.0
    blocked_steps: int = 0
    strict: bool = False

    def __post_init__(self) -> None:
        if not self.threshold > 0:
            raise InputError(f"threshold={self.threshold}: a threshold must be above 0, as in simulate.threshold=1")
        if self.reset not in RESETS:
            raise InputError(f"reset={self.reset}: unknown, choose simulate.reset=zero or simulate.reset=subtract")

    def initial(self, like: Tensor) -> State:
        """A fresh state for neurons of the shape (...N), dtype and device of `like`."""
        return State(torch.full_like(like, self.start), torch.zeros_like(like) if self.blocked_steps else None)

    def step(self, drive: Tensor, state: State, spikes: Tensor, charged: Tensor | None = None) -> None:
        """One step, in place: drive (...N) changes the state and fills spikes (...N, 0 or 1 in the drive's dtype).

        charged (...N), where given, receives the potential after charging and before the reset.
        """
        v, waiting = state
        charge_(v, drive if waiting is None else drive.masked_fill(waiting > 0, 0))
        fire_(spikes, v, self.threshold, self.strict)
        if waiting is not None:
            spikes.masked_fill_(waiting > 0, 0)  # a soft reset may leave it above the threshold
            waiting.sub_(1).masked_fill_(spikes > 0, self.blocked_steps)
        if charged is not None:
            charged.copy_(v)
        RESETS[self.reset](v, spikes, self.threshold)

    def scan(self, drive: Tensor, steps: int) -> Tensor:
        """All steps of a layer: drive (steps or 1, ...N) -> spikes (steps, ...N), 0 or 1 in the drive's dtype.

        A drive of one step is constant over time.
        """
        spikes = drive.new_empty(steps, *drive.shape[1:])
        state = self.initial(drive[0])
        for t in range(steps):
            self.step(drive[t if len(drive) > 1 else 0], state, spikes[t])
        return spikes
