"""What a simulation is asked to do: neuron, clock, input coding, arithmetic. Checked when it is made."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from respike.convert.rate.rate_snn import RateSNN
from respike.data.pixels import to_unit
from respike.errors import InputError
from respike.neurons.encode import Rate
from respike.neurons.integrate_fire import IntegrateFire
from respike.simulate.rate.fixed_point import compile_grid
from respike.simulate.rate.program import Program, compile_float


@dataclass(frozen=True)
class Settings:
    """Settings of `simulate`; each is a keyword of it. Times in seconds.

    encode: `Rate(max_rate)`, `Threshold(spike_threshold)` or `Current(gain)`.
    threshold: potential at which every neuron fires, pools included. strict: it fires above it, not at it.
    dt, duration: time step and simulated time. t_ref: no two spikes of a neuron lie closer than this.
    reset: "zero" or "subtract". start: first potential as a share of the threshold, below 1.
    start_at_zero: run t = 0 .. duration (one step more) instead of dt .. duration; drop_first_output: the output layer
    gets no input in the first step. Both are details of the authors' CNN loop.
    backend: "auto", the fastest that can run; or "triton" (the grid on a CUDA device), "events" (the grid on a CPU
    with a C compiler, most layers), "torch" (anything, anywhere). The spikes are the same.
    weight_bits: 2 to 24, the fixed-point grid, exact on every device and for every cut of the work; None: floats.
    seed: of the random input spikes.
    """

    encode: Callable[..., Tensor] = Rate(1000.0)
    threshold: float = 1.0
    dt: float = 0.001
    duration: float = 0.040
    t_ref: float = 0.0
    reset: str = "zero"
    start: float = 0.0
    strict: bool = False
    start_at_zero: bool = False
    drop_first_output: bool = False
    weight_bits: int | None = 16
    seed: int = 0
    backend: str = "auto"

    def __post_init__(self) -> None:
        if not self.threshold > 0:
            raise InputError(f"simulate.threshold={self.threshold}: must be above 0, as in simulate.threshold=1")
        if not self.dt > 0:
            raise InputError(
                f"simulate.dt={self.dt}: a time step in seconds above 0 is needed, as in simulate.dt=0.001"
            )
        if not self.duration >= self.dt:
            raise InputError(
                f"simulate.duration={self.duration} is shorter than one step of {self.dt} s; as in simulate.duration=0.04"
            )
        if not self.t_ref >= 0:
            raise InputError(f"simulate.t_ref={self.t_ref}: 0 or a time in seconds, as in simulate.t_ref=0.002")
        if not self.start < 1:
            raise InputError(f"simulate.start={self.start}: a share of the threshold below 1, as in simulate.start=0.5")
        if self.weight_bits is not None and not 2 <= self.weight_bits <= 24:
            raise InputError(f"simulate.weight_bits={self.weight_bits}: 2 to 24, or null for the network's own floats")
        if self.backend not in ("auto", "torch", "events", "triton"):
            raise InputError(f"simulate.backend={self.backend}: unknown, choose auto, torch, events or triton")
        _ = self.neuron  # checks the reset

    @property
    def neuron(self) -> IntegrateFire:
        """The neuron of every layer. A refractory period of n steps ignores the input of n - 1 steps after a spike."""
        blocked = max(0, math.ceil(round(self.t_ref / self.dt, 6)) - 1)
        return IntegrateFire(self.threshold, self.reset, self.start * self.threshold, blocked, self.strict)

    @property
    def steps(self) -> int:
        """Number of steps T."""
        return round(self.duration / self.dt) + self.start_at_zero

    @property
    def times_ms(self) -> Tensor:
        """Simulated time of each step in ms, (T,)."""
        return (torch.arange(self.steps, dtype=torch.float64) + (0 if self.start_at_zero else 1)) * self.dt * 1000

    def compile(self, snn: RateSNN, input_shape: torch.Size) -> Program:
        """The network as these settings run it, for images of shape (C, H, W)."""
        if self.weight_bits is None:
            return compile_float(snn, input_shape, self.neuron)
        return compile_grid(snn, input_shape, self.neuron, self.weight_bits, self.steps, self.encode.largest_current)

    def encoded(self, program: Program, images: Tensor, index: Tensor, steps: Tensor) -> Tensor:
        """Input of the given steps (T',) for images (B, ...P), float in [0, 1] or uint8: (T' or 1, B, ...P)."""
        images = self.pixels(images)
        return program.input_values(
            self.encode(images, index.to(images.device), steps.to(images.device), self.dt, self.seed)
        )

    def pixels(self, images: Tensor) -> Tensor:
        """Images as floats, uint8 ones divided by 255. Raises InputError where spikes cannot code them."""
        images = to_unit(images)
        if not self.encode.analog and not 0 <= float(images.min()) <= float(images.max()) <= 1:
            raise InputError(
                f"images between {float(images.min()):.3g} and {float(images.max()):.3g} cannot be coded as spikes; "
                "pixels must lie in [0, 1] (fold a mean and a deviation into the first layer, or use encode=current)"
            )
        return images

    def warn_if_odd(self) -> None:
        """Say so where the brightest pixels should spike more often than once per step, or milliseconds were meant."""
        if self.duration > 5:
            warnings.warn(f"simulate.duration={self.duration} is in seconds: {self.steps:,} steps", stacklevel=3)
        if not self.encode.analog and self.encode.largest_probability(self.dt) > 1 + 1e-9:
            warnings.warn(
                f"the input saturates: pixel 1 would spike {self.encode.largest_probability(self.dt):g} times per step of "
                f"{self.dt:g} s; once is the most (lower encode.max_rate or simulate.dt)",
                stacklevel=3,
            )
