"""Surrogate derivatives h of the spike o = [u > v_th], each with an integral of 1. u of any shape.

All are functions of the distance of the potential from the threshold, where the derivative of the spike is.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from respike.errors import InputError

CENTRES = ("threshold", "zero")


@dataclass(frozen=True)
class Surrogate(ABC):
    """A derivative that replaces that of the step function. Raises InputError for values out of range.

    centre: the potential it is centred on, "threshold", or "zero" as in the published MNIST repository (which fires at 0.4
    and differentiates around 0).
    """

    centre: str = field(default="threshold", kw_only=True)

    def __post_init__(self) -> None:
        if self.centre not in CENTRES:
            raise InputError(
                f"neuron.surrogate.centre={self.centre}: unknown, choose neuron.surrogate.centre={' or '.join(CENTRES)}"
            )
        for field_ in fields(self):
            name, value = field_.name, getattr(self, field_.name)
            if name != "centre" and not value > 0:
                raise InputError(
                    f"neuron.surrogate.{name}={value}: a width or steepness above 0 is needed, "
                    f"as in neuron.surrogate.{name}=0.5"
                )

    def __call__(self, u: Tensor, v_th: float) -> Tensor:
        """h at potentials u, in their shape."""
        return self.derivative(u - v_th if self.centre == "threshold" else u)

    @abstractmethod
    def derivative(self, x: Tensor) -> Tensor:
        """h at distances x from the centre, in their shape."""


@dataclass(frozen=True)
class Rectangle(Surrogate):
    """1 / (2a) for |x| < a (Wu et al. 2018, eq. 24, where a is the whole width, twice this a)."""

    a: float = 0.5

    def derivative(self, x: Tensor) -> Tensor:
        """h at distances x from the centre, in their shape."""
        return (x.abs() < self.a).to(x.dtype) / (2 * self.a)


@dataclass(frozen=True)
class Triangle(Surrogate):
    """(1 - |x| / a) / a for |x| < a (Esser et al. 2016; Bellec et al. 2018)."""

    a: float = 1.0

    def derivative(self, x: Tensor) -> Tensor:
        """h at distances x from the centre, in their shape."""
        return (1 - x.abs() / self.a).clamp(min=0) / self.a


@dataclass(frozen=True)
class Sigmoid(Surrogate):
    """The derivative of 1 / (1 + exp(-steepness x)) (SpikingJelly's default of the same name)."""

    steepness: float = 4.0

    def derivative(self, x: Tensor) -> Tensor:
        """h at distances x from the centre, in their shape."""
        s = torch.sigmoid(self.steepness * x)
        return self.steepness * s * (1 - s)


@dataclass(frozen=True)
class ATan(Surrogate):
    """The derivative of atan(pi/2 steepness x) / pi + 1/2 (Fang et al. 2021)."""

    steepness: float = 2.0

    def derivative(self, x: Tensor) -> Tensor:
        """h at distances x from the centre, in their shape."""
        return self.steepness / 2 / (1 + (math.pi / 2 * self.steepness * x) ** 2)
