"""The integrate-and-fire neuron without leak (Diehl et al. 2015, section II-B). T steps, N neurons of any shape.

v[t] = reset(v[t-1], s[t-1]) + x[t],  s[t] = 1 if v[t] >= threshold, for a current x. The reset after a spike is written at the
beginning of the next step, so that the state holds the potential that was compared with the threshold.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import torch
from torch import Tensor

from respike.errors import InputError
from respike.neurons.neuron import Neuron, check_choice

RESETS = ("zero", "subtract")


class IFState(NamedTuple):
    """potential (before the reset), spikes (0 or 1), and the steps in which the neuron is still blocked, (...N) each.

    blocked is None for a neuron without a refractory period.
    """

    potential: Tensor
    spikes: Tensor
    blocked: Tensor | None


class IntegrateFireEquation(Neuron):
    """The equation, with five constants that the subclasses define.

    threshold; start_potential: potential before the first step; reset: "zero" or "subtract"; fire_above: fire above the
    threshold, not at it; blocked_steps: steps after a spike in which input is ignored and the neuron does not fire.
    """

    reset: str
    fire_above: bool

    @property
    @abstractmethod
    def start_potential(self) -> float:
        """Potential before the first step."""

    @property
    @abstractmethod
    def blocked_steps(self) -> int:
        """Steps after a spike without input."""

    def initial(self, like: Tensor) -> IFState:
        """The state before the first step, for neurons of the shape (...N), dtype and device of `like`."""
        blocked = torch.zeros_like(like) if self.blocked_steps else None
        return IFState(torch.full_like(like, self.start_potential), torch.zeros_like(like), blocked)

    def step(self, drive: Tensor, state: IFState) -> IFState:
        """The state after one step, from the input current `drive` (...N) and the state before."""
        state, spikes = _copy(state), torch.empty_like(drive)
        self._step_into(spikes, drive, state)
        return IFState(state.potential, spikes, state.blocked)

    def scan(self, drive: Tensor, steps: int | None = None, state: IFState | None = None) -> tuple[Tensor, IFState]:
        """All steps of a layer, as in `Neuron.scan`, without a new tensor at each step."""
        state = self.initial(drive[0]) if state is None else _copy(state)
        spikes = drive.new_empty(len(drive) if steps is None else steps, *drive.shape[1:])
        for t, fired in enumerate(spikes):
            self._step_into(fired, drive[t] if len(drive) > 1 else drive[0], state)
            state = IFState(state.potential, fired, state.blocked)
        return spikes, state

    @torch.no_grad()
    def _step_into(self, spikes: Tensor, drive: Tensor, state: IFState) -> None:
        """One step in place: fills `spikes` (...N) and changes the potential and the blocked steps of `state`."""
        v, before, blocked = state
        if self.reset == "zero":
            v.addcmul_(v, before, value=-1)
        else:
            v.sub_(before, alpha=self.threshold)
        v.add_(drive if blocked is None else drive.masked_fill(blocked > 0, 0))
        if self.fire_above:
            torch.gt(v, self.threshold, out=spikes)
        else:
            torch.ge(v, self.threshold, out=spikes)
        if blocked is not None:
            spikes.masked_fill_(blocked > 0, 0)  # a soft reset may leave the potential above the threshold
            blocked.sub_(1).masked_fill_(spikes > 0, self.blocked_steps)


def _copy(state: IFState) -> IFState:
    blocked = None if state.blocked is None else state.blocked.clone()
    return IFState(state.potential.clone(), state.spikes, blocked)


@dataclass(frozen=True)
class IntegrateFire(IntegrateFireEquation):
    """An integrate-and-fire neuron.

    threshold: potential at which it fires; reset: "zero", or "subtract" for v - threshold; start: potential before the first
    step, as a share of the threshold, below 1; t_ref: refractory period in seconds (no two spikes lie closer than this);
    fire_above: fire above the threshold (snnTorch, Norse, STBP) instead of at it (Diehl, SpikingJelly); dt: time step in
    seconds, which the simulation sets. Raises InputError for values out of range.
    """

    threshold: float = 1.0
    reset: str = "zero"
    start: float = 0.0
    t_ref: float = 0.0
    fire_above: bool = False
    dt: float | None = None

    def __post_init__(self) -> None:
        if not self.threshold > 0:
            raise InputError(f"neuron.threshold={self.threshold}: must be above 0, as in neuron.threshold=1")
        check_choice("reset", self.reset, RESETS)
        if not self.start < 1:
            raise InputError(f"neuron.start={self.start}: a share of the threshold below 1, as in neuron.start=0.5")
        if not self.t_ref >= 0:
            raise InputError(f"neuron.t_ref={self.t_ref}: 0 or a time in seconds, as in neuron.t_ref=0.002")

    @property
    def start_potential(self) -> float:
        """Potential before the first step."""
        return self.start * self.threshold

    @property
    def blocked_steps(self) -> int:
        """Steps after a spike without input: n - 1 for a refractory period of n steps. Raises InputError without dt."""
        if self.t_ref == 0:
            return 0
        if self.dt is None:
            raise InputError(f"neuron.t_ref={self.t_ref} needs a time step: call with_time_step(dt)")
        return max(0, math.ceil(round(self.t_ref / self.dt, 6)) - 1)

    def with_time_step(self, dt: float) -> Self:
        """This neuron for a simulation with a time step of dt seconds."""
        return replace(self, dt=dt)

    def fixed_point(self, unit: float) -> "FixedPointIntegrateFire":
        """This neuron with a potential of 1 held as the integer `unit`; the threshold is at least 1."""
        return FixedPointIntegrateFire(
            threshold=max(1, round(self.threshold * unit)),
            start_potential=round(self.start_potential * unit),
            reset=self.reset,
            fire_above=self.fire_above,
            blocked_steps=self.blocked_steps,
        )


DIEHL = IntegrateFire()  # of the experiments of 2015
SOFT = IntegrateFire(reset="subtract", start=0.5)  # for deep networks and few steps


@dataclass(frozen=True)
class FixedPointIntegrateFire(IntegrateFireEquation):
    """`IntegrateFire` in integers: potentials, currents and threshold are multiples of one unit. All kernels run it."""

    threshold: int
    start_potential: int = 0
    reset: str = "zero"
    fire_above: bool = False
    blocked_steps: int = 0

    @property
    def fires_at(self) -> int:
        """The smallest potential at which it fires."""
        return self.threshold + self.fire_above
