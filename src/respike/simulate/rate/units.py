"""What stands in place of neurons in layers that do not integrate: max-pools of spikes, carried currents, the summed output.

Each has the methods of a `Neuron` that the simulators call: `initial`, `step` and `scan`. T steps, N values of any shape.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from respike.convert.graph.nodes import SignedMaxPool2d
from respike.neurons.neuron import Neuron, State


class PoolState(NamedTuple):
    """potential: the largest count of each window, (...N); spikes: of this step, (...N); counts: of the inputs, (...M)."""

    potential: Tensor
    spikes: Tensor
    counts: Tensor


@dataclass(frozen=True)
class MaxPool(Neuron):
    """A max-pool of spikes, or of the running sums of currents; its drive is the inputs (...M), its spikes the windows' (...N).

    rule "count": with n_i(t) the spikes of input i up to step t, N(t) = max n_i(t) of a window is the count of its output,
    which emits N(t) - N(t - 1): at most one spike a step if no input has more, and as many in all as its most active input.
    rule "gate": the window passes what the input with the largest n_i(t) emits; ties go to the first in the window.
    """

    pool: nn.Module
    rule: str = "count"
    threshold: float = 1.0  # for figures: the potential is the count

    def initial(self, like: Tensor) -> PoolState:
        """No spikes so far, for inputs of the shape (B, ...M) of `like`."""
        windows = self.pool(like.float()).to(like.dtype)
        return PoolState(torch.zeros_like(windows), torch.zeros_like(windows), torch.zeros_like(like))

    def step(self, drive: Tensor, state: PoolState) -> PoolState:
        """One step: inputs (B, ...M)."""
        counts = state.counts + drive
        if self.rule == "count":
            largest = self.pool(counts)
            return PoolState(largest, largest - state.potential, counts)
        pool, ranked = self.pool, counts
        if isinstance(pool, SignedMaxPool2d):
            pool, ranked = pool.pool, pool.sign.to(counts).view(-1, 1, 1) * counts
        _, winners = nn.functional.max_pool2d(
            ranked, pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode, return_indices=True
        )
        passed = drive.flatten(-2).gather(-1, winners.flatten(-2)).view_as(winners)
        return PoolState(self.pool(counts), passed, counts)

    def scan(self, drive: Tensor, steps: int | None = None, state: PoolState | None = None) -> tuple[Tensor, PoolState]:
        """All steps, as in `Neuron.scan`."""
        if self.rule != "count":
            return super().scan(drive, steps, state)
        steps = len(drive) if steps is None else steps
        state = self.initial(drive[0]) if state is None else state
        counts = drive.expand(steps, *drive.shape[1:]).cumsum(0) + state.counts
        largest = self.pool(counts.flatten(0, 1)).unflatten(0, counts.shape[:2])  # (T, B, ...N)
        spikes = torch.diff(largest, dim=0, prepend=state.potential[None])
        return spikes, PoolState(largest[-1], spikes[-1], counts[-1])


@dataclass(frozen=True)
class Carry(Neuron):
    """A current that is handed on as it is, rounded to multiples of `grid` in fixed point."""

    grid: float | None = None
    threshold: float = 1.0

    def step(self, drive: Tensor, state: Any) -> State:
        """One step."""
        return State(drive, self._rounded(drive))

    def scan(self, drive: Tensor, steps: int | None = None, state: Any = None) -> tuple[Tensor, State]:
        """All steps, as in `Neuron.scan`; a constant current stays one step long."""
        values = self._rounded(drive)
        return values, State(drive[-1], values[-1])

    def _rounded(self, drive: Tensor) -> Tensor:
        return drive if self.grid is None else (drive / self.grid).round_()


@dataclass(frozen=True)
class SummedCurrent(Neuron):
    """The output read by its current: the potential of a neuron that never fires, whose sum decides the class.

    threshold: in fixed point the integer that stands for a current of 1.
    """

    threshold: float = 1.0

    def step(self, drive: Tensor, state: State) -> State:
        """One step. `spikes` is the current itself."""
        return State(state.potential + drive, drive)

    def scan(self, drive: Tensor, steps: int | None = None, state: State | None = None) -> tuple[Tensor, State]:
        """All steps, as in `Neuron.scan`."""
        steps = len(drive) if steps is None else steps
        currents = drive.expand(steps, *drive.shape[1:])
        before = torch.zeros_like(drive[0]) if state is None else state.potential
        return currents, State(before + currents.sum(0), currents[-1])
