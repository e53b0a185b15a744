"""Settings of a simulation: neuron, time, input coding, arithmetic. Checked when the object is made."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from respike.errors import InputError
from respike.neurons.encode import Encoder, Rate, SpikeEncoder
from respike.neurons.integrate_fire import IntegrateFire
from respike.neurons.neuron import Neuron

NEURON_KEYWORDS = {"strict": "fire_above"} | {name: name for name in ("threshold", "reset", "start", "t_ref")}  # moved
BACKENDS = ("auto", "torch", "events", "triton")


@dataclass(frozen=True)
class Settings:
    """Settings of `simulate`; each is a keyword of it. Times in seconds.

    encode: `Rate(max_rate)`, `Threshold(spike_threshold)` or `Current(gain)`.
    neuron: the neuron of every layer, pools included, as in `IntegrateFire(threshold=0.5, reset="subtract")`.
    dt, duration: time step and simulated time.
    start_at_zero: run t = 0 .. duration (one step more) instead of dt .. duration; drop_first_output: the output layer
    gets no input in the first step. Both are details of the authors' CNN loop.
    read_from: the number t0 of steps at the beginning whose output is left out of the sum or count that decides the class
    (delayed read-out, Bu et al. 2025). They are simulated all the same: T and every latency count from the first step.
    backend: "auto", the fastest that is supported; or "triton" (fixed point on a CUDA device), "events" (fixed point on a CPU
    with a C compiler), "torch" (anything, anywhere). The spikes are the same.
    weight_bits: 2 to 24, the fixed-point grid, exact on every device and for every chunk size; None: floating point.
    A neuron that has no fixed-point form is simulated in floating point.
    seed: the seed of the random input spikes.
    """

    encode: Encoder = Rate(1000.0)
    neuron: Neuron = IntegrateFire()
    dt: float = 0.001
    duration: float = 0.040
    start_at_zero: bool = False
    drop_first_output: bool = False
    read_from: int = 0
    weight_bits: int | None = 16
    seed: int = 0
    backend: str = "auto"

    def __post_init__(self) -> None:
        if not isinstance(self.neuron, Neuron):
            raise InputError(f"neuron={self.neuron}: a neuron is needed, as in neuron=integrate_fire or neuron=lif")
        if not hasattr(self.neuron, "threshold"):
            raise InputError(f"{type(self.neuron).__name__} has no threshold; give the class a field threshold")
        if not self.dt > 0:
            raise InputError(
                f"simulate.dt={self.dt}: a time step in seconds above 0 is needed, as in simulate.dt=0.001"
            )
        if not self.duration >= self.dt:
            raise InputError(
                f"simulate.duration={self.duration} is shorter than one step of {self.dt} s; as in simulate.duration=0.04"
            )
        if not 0 <= self.read_from < self.steps:
            raise InputError(
                f"simulate.read_from={self.read_from}: of {self.steps} steps, 0 to {self.steps - 1} can be left out of the "
                f"read-out; type simulate.read_from={self.steps - 1} or less, or a longer simulate.duration"
            )
        if self.weight_bits is not None and not 2 <= self.weight_bits <= 24:
            raise InputError(f"simulate.weight_bits={self.weight_bits}: 2 to 24, or null for floating point")
        if self.backend not in BACKENDS:
            raise InputError(f"simulate.backend={self.backend}: unknown, choose one of {', '.join(BACKENDS)}")

    @classmethod
    def from_keywords(cls, given: Mapping[str, Any]) -> "Settings":
        """The settings with the given keywords of `simulate`. Raises InputError for an unknown one."""
        known = [field.name for field in fields(cls)]
        for name, value in given.items():
            if name in NEURON_KEYWORDS:
                new = NEURON_KEYWORDS[name]
                raise InputError(
                    f"simulate.{name}={value} is now neuron.{new}={value}; in Python neuron=IntegrateFire({new}={value!r})"
                )
            if name not in known:
                raise InputError(f"simulate.{name}={value}: unknown setting; choose from {', '.join(known)}")
        return cls(**given)

    @classmethod
    def of(cls, simulate: Callable[..., Any]) -> "Settings":
        """Those that a partial of `simulate` has, without its other keywords, as chunk."""
        given: Mapping[str, Any] = getattr(simulate, "keywords", {})
        return cls(**{field.name: given[field.name] for field in fields(cls) if field.name in given})

    @property
    def steps(self) -> int:
        """Number of steps T."""
        return steps_of(self.duration, self.dt, self.start_at_zero)

    @property
    def times_ms(self) -> Tensor:
        """Simulated time of each step in ms, (T,)."""
        return (torch.arange(self.steps, dtype=torch.float64) + (0 if self.start_at_zero else 1)) * self.dt * 1000

    def warn_if_unusual(self) -> None:
        """Warn of input that should spike more often than once per step, and of a duration that looks like milliseconds."""
        if self.duration > 5:
            warnings.warn(f"simulate.duration={self.duration} is in seconds: {self.steps:,} steps", stacklevel=3)
        if isinstance(self.encode, SpikeEncoder) and self.encode.largest_probability(self.dt) > 1 + 1e-9:
            warnings.warn(
                f"the input saturates: pixel 1 would spike {self.encode.largest_probability(self.dt):g} times per step of "
                f"{self.dt:g} s; at most once is possible (lower encode.max_rate or simulate.dt)",
                stacklevel=3,
            )


def steps_of(duration: float, dt: float, start_at_zero: bool = False) -> int:
    """Number of steps T of a simulation. In a config: ${steps_of:...}."""
    return round(duration / dt) + start_at_zero
