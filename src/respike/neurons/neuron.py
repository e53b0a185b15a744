"""The base class of neuron models: an initial state, one step, and a scan over T steps. T steps, N neurons of any shape.

A new neuron is a subclass of `Neuron` with one method, `step`. A scan creates a new state for each call and never
shares it, so that one `Neuron` object can serve all layers of a network.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from respike.errors import InputError

if TYPE_CHECKING:
    from respike.neurons.integrate_fire import FixedPointIntegrateFire


class State(NamedTuple):
    """The state of a layer of neurons between two steps, (...N) each.

    potential: the membrane potential that was compared with the threshold, before any reset; spikes: 0 or 1. A neuron
    with more state defines a NamedTuple that has at least these two fields.
    """

    potential: Tensor
    spikes: Tensor


class Neuron(ABC):
    """One kind of neuron: an equation and its constants. Subclasses are immutable (frozen dataclasses).

    threshold: potential at which the neuron fires; tdBN scales its output by it, and figures draw it. differentiable: spikes
    have a (surrogate) derivative, so that a network of these neurons can be trained.
    """

    differentiable: ClassVar[bool] = False
    if TYPE_CHECKING:  # read-only: a field of a frozen dataclass, or a property

        @property
        def threshold(self) -> float: ...

    def initial(self, like: Tensor) -> Any:
        """The state before the first step, for neurons of the shape (...N), dtype and device of `like`: at rest at 0."""
        return State(torch.zeros_like(like), torch.zeros_like(like))

    @abstractmethod
    def step(self, drive: Tensor, state: Any) -> Any:
        """The state after one step, from the input current `drive` (...N) and the state before. Changes neither."""

    def scan(self, drive: Tensor, steps: int | None = None, state: Any = None) -> tuple[Tensor, Any]:
        """All steps of a layer: spikes (T, ...N), and the state after the last step.

        drive: (T, ...N), or (1, ...N) for a current that is constant over time; steps: T, by default len(drive);
        state: the state after the previous step, by default the initial one.
        """
        state = self.initial(drive[0]) if state is None else state
        spikes = []
        for t in range(len(drive) if steps is None else steps):
            state = self.step(drive[t] if len(drive) > 1 else drive[0], state)
            spikes.append(state.spikes)
        return torch.stack(spikes), state

    def with_time_step(self, dt: float) -> Self:
        """This neuron for a simulation with a time step of dt seconds. A neuron without times in seconds stays as it is."""
        return self

    def fixed_point(self, unit: float) -> "FixedPointIntegrateFire | None":
        """This neuron with a potential of 1 held as the integer `unit`, or None if integers cannot hold it exactly.

        A neuron that returns None is simulated in floating point.
        """
        return None


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Raises InputError unless the setting `neuron.<name>` is one of `choices`."""
    if value not in choices:
        raise InputError(f"neuron.{name}={value}: unknown, choose {' or '.join(f'neuron.{name}={c}' for c in choices)}")
