"""Settings of the evaluation of a time-to-first-spike network, and of noise. Checked when the object is made."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from respike.errors import InputError
from respike.neurons.encode import normal, stream_seed

EVALUATORS = ("certified", "closed", "sorted", "events")
CROSSINGS = ("exact", "authors")
PRECISIONS = {"float64": torch.float64, "float32": torch.float32}


@dataclass(frozen=True)
class TTFSSettings:
    """Settings of `simulate_ttfs`; each is a keyword of it. The noise is normal, given by its standard deviation.

    evaluator: "certified", the closed form where a bound proves that it is right and a search for the first crossing elsewhere;
    "closed", the closed form everywhere, without proof; "sorted", the search everywhere; "events", spike by spike in plain
    Python.
    first_crossing: "exact", or "authors", as the published search finds it (`published_crossing`, and an output that
    counts inputs after its reading negatively).
    precision: "float64" or "float32".
    time_noise: on each spike time, after the clamp at t_max, and on input times, which stay above 0.
    alpha_noise: on the drive alpha of each hidden neuron, or channel, fixed for a trial.
    weight_noise: on each weight as a share of it, fixed for a trial.
    levels: number of possible spike times in each layer's interval (after the noise); None: any time.
    seed, trial: with image, layer and neuron they determine the noise, for any split of the images.
    """

    evaluator: str = "certified"
    first_crossing: str = "exact"
    precision: str = "float64"
    time_noise: float = 0.0
    alpha_noise: float = 0.0
    weight_noise: float = 0.0
    levels: int | None = None
    seed: int = 0
    trial: int = 0

    @classmethod
    def of(cls, simulate: Callable[..., Any]) -> "TTFSSettings":
        """Those that a partial of `simulate_ttfs` has, without its other keywords, as chunk."""
        given: Mapping[str, Any] = getattr(simulate, "keywords", {})
        return cls(**{field.name: given[field.name] for field in fields(cls) if field.name in given})

    def __post_init__(self) -> None:
        for name, allowed in (
            ("evaluator", EVALUATORS),
            ("first_crossing", CROSSINGS),
            ("precision", tuple(PRECISIONS)),
        ):
            given = getattr(self, name)
            if given not in allowed:
                near = [*difflib.get_close_matches(str(given).lower(), allowed, n=1), allowed[0]][0]
                raise InputError(
                    f"simulate.{name}={given}: unknown, choose one of {', '.join(allowed)}, as in simulate.{name}={near}"
                )
        for name in ("time_noise", "alpha_noise", "weight_noise"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(
                    f"simulate.{name}={getattr(self, name)}: 0 or a deviation, as in simulate.{name}=0.001"
                )
        self.refuse_wide_noise("the input", 1.0)
        if self.levels is not None and self.levels < 2:
            raise InputError(f"simulate.levels={self.levels}: 2 or more, or null for spikes at any time")
        if self.evaluator == "events" and self.authors:
            raise InputError("simulate.evaluator=events finds exact crossings only; use simulate.evaluator=sorted")

    def refuse_wide_noise(self, name: str, length: float) -> None:
        """Raise InputError if the deviation of spike times is not below the length of the interval they lie in."""
        if self.time_noise >= length:
            raise InputError(
                f"simulate.time_noise={self.time_noise}: as wide as the interval of {name}, {length:.4g}, or wider; choose a "
                "deviation below it, as in simulate.time_noise=0.001"
            )

    @property
    def authors(self) -> bool:
        """Whether crossings and outputs are those of the published code, in every layer."""
        return self.first_crossing == "authors"

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of spike times and weights."""
        return PRECISIONS[self.precision]

    def noise(self, kind: str, layer: str, index: Tensor, count: int) -> Tensor:
        """Standard normal deviates (B, count) of one kind in one layer, for images, or rows of weights, `index` (B,)."""
        return normal(index, count, stream_seed(self.seed, self.trial, kind, layer))

    def disturbed(self, leads: Tensor, layer: str, length: float, index: Tensor) -> Tensor:
        """Leads (B, ...N) of a layer's spikes, or of the input, with time noise and on the grid."""
        if self.time_noise:
            noise = self.noise("time", layer, index.to(leads.device), leads[0].numel()).view(leads.shape)
            leads = leads - (self.time_noise * noise).to(leads)
            leads = leads.clamp_(max=length) if layer == "input" else leads
        if self.levels is not None:
            step = length / (self.levels - 1)
            leads = (leads / step).round() * step
        return leads
