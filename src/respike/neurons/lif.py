"""The iterative leaky integrate-and-fire neuron of STBP (Wu et al. 2018, eqs. 19-20). T steps, N neurons of any shape.

u[t] = tau u[t-1] (1 - o[t-1]) + x[t],  o[t] = 1 if u[t] > v_th, with u[0] = o[0] = 0. The reset after a spike takes effect at
the next step.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from respike.errors import InputError
from respike.neurons.neuron import Neuron, State, check_choice
from respike.neurons.surrogate import Rectangle, Surrogate

RESETS = ("zero", "subtract")


class _Fire(torch.autograd.Function):
    """A step function forward, the surrogate derivative backward."""

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
    """1 where u > v_th, else 0, in the shape and dtype of u; the backward pass uses the surrogate derivative."""
    return _Fire.apply(u, v_th, surrogate)


@dataclass(frozen=True)
class LIF(Neuron):
    """A leaky integrate-and-fire neuron.

    v_th: it fires above this potential; tau: share of the potential that is kept at each step; surrogate: derivative of a
    spike in the backward pass; reset: "zero", or "subtract" for u - v_th; detach_reset: no gradient passes through the reset
    (in the published code it does). Raises InputError for values out of range.
    """

    differentiable = True
    v_th: float = 0.4
    tau: float = 0.25
    surrogate: Surrogate = field(default_factory=Rectangle)
    reset: str = "zero"
    detach_reset: bool = False

    def __post_init__(self) -> None:
        if not self.v_th > 0:
            raise InputError(f"neuron.v_th={self.v_th}: must be above 0, as in neuron.v_th=0.4")
        if not 0 <= self.tau <= 1:
            raise InputError(f"neuron.tau={self.tau}: the share kept at each step, 0 to 1, as in neuron.tau=0.25")
        check_choice("reset", self.reset, RESETS)

    @property
    def threshold(self) -> float:
        """The same number as v_th; all neurons have this attribute."""
        return self.v_th

    def step(self, drive: Tensor, state: State) -> State:
        """The state after one step, from the input current `drive` (...N) and the state before."""
        u, o = state
        if self.detach_reset:
            o = o.detach()
        kept = u * (1 - o) if self.reset == "zero" else u - self.v_th * o
        u = self.tau * kept + drive
        return State(u, fire(u, self.v_th, self.surrogate))
