"""The iterative leaky integrate-and-fire neuron of STBP (Wu et al. 2018, eqs. 19-20). N neurons of any shape.

u[t] = tau u[t-1] (1 - o[t-1]) + x[t],  o[t] = 1 if u[t] > v_th, with u[0-] = 0: a spike resets at the step after it.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from respike.errors import InputError
from respike.neurons.surrogate import Rectangle, Surrogate


class _Fire(torch.autograd.Function):
    """A step forward, the surrogate backward."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, v_th: float, surrogate: Surrogate) -> Tensor:
        ctx.save_for_backward(u)
        ctx.v_th, ctx.surrogate = v_th, surrogate
        return (u > v_th).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (u,) = ctx.saved_tensors
        return gradient * ctx.surrogate(u, ctx.v_th), None, None


def fire(u: Tensor, v_th: float, surrogate: Surrogate) -> Tensor:
    """1 where u > v_th, else 0, in the shape and dtype of u; its derivative is the surrogate's."""
    return _Fire.apply(u, v_th, surrogate)


class State(NamedTuple):
    """What a layer carries from step to step: potential u and spike o, (...N) each."""

    u: Tensor
    o: Tensor


def _kept_after_reset_to_zero(u: Tensor, o: Tensor, v_th: float) -> Tensor:
    return u * (1 - o)


def _kept_after_subtraction(u: Tensor, o: Tensor, v_th: float) -> Tensor:
    return u - v_th * o


RESETS = {"zero": _kept_after_reset_to_zero, "subtract": _kept_after_subtraction}


@dataclass(frozen=True)
class LIF:
    """One kind of leaky integrate-and-fire neuron.

    v_th: it fires above this; tau: share of the potential that a step keeps; reset: "zero", or "subtract", which takes
    v_th away; detach_reset: no gradient passes through the reset (in the published code it does).
    """

    v_th: float = 0.4
    tau: float = 0.25
    surrogate: Surrogate = field(default_factory=Rectangle)
    reset: str = "zero"
    detach_reset: bool = False

    def __post_init__(self) -> None:
        if not self.v_th > 0:
            raise InputError(f"model.v_th={self.v_th}: a threshold must be above 0, as in model.v_th=0.4")
        if not 0 <= self.tau <= 1:
            raise InputError(f"model.tau={self.tau}: the share that a step keeps is 0 to 1, as in model.tau=0.25")
        if self.reset not in RESETS:
            raise InputError(f"model.reset={self.reset}: unknown, choose model.reset=zero or model.reset=subtract")

    def initial(self, like: Tensor) -> State:
        """A fresh state for neurons of the shape (...N), dtype and device of `like`."""
        return State(torch.zeros_like(like), torch.zeros_like(like))

    def step(self, x: Tensor, state: State) -> State:
        """One step: current x (...N) and the state before -> the state after, whose o are the spikes of this step."""
        o = state.o.detach() if self.detach_reset else state.o
        u = self.tau * RESETS[self.reset](state.u, o, self.v_th) + x
        return State(u, fire(u, self.v_th, self.surrogate))

    def scan(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """All steps: currents x (T, ...N) -> spikes (T, ...N), and the state after the last. state: of the step before."""
        state, spikes = state or self.initial(x[0]), []
        for x_t in x:
            state = self.step(x_t, state)
            spikes.append(state.o)
        return torch.stack(spikes), state
