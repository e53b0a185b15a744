"""What is compared among runs: a metric, its name and unit for people, and which end of it is the better one."""

import difflib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from respike.errors import InputError
from respike.report.collect import Run
from respike.report.columns import NOTHING, count


@dataclass(frozen=True)
class Measure:
    """A number of a run.

    key: the metric's name. words, unit: for headings. better: 1 where more is better, -1 where less is, 0 unknown.
    of: run -> number or None; fractions of unit "%" are shown in percent.
    """

    key: str
    words: str
    unit: str
    better: int
    of: Callable[[Run], float | None]

    @property
    def title(self) -> str:
        """Words for the top of a picture, which has no text beside it."""
        return TITLES.get(self.key, self.words[0].upper() + self.words[1:])

    @property
    def heading(self) -> str:
        """Words and unit: "spikes per image", "final accuracy (%)"."""
        return f"{self.words} ({self.unit})" if self.unit else self.words

    def scaled(self, value: float) -> float:
        """The value in the heading's unit."""
        return 100 * value if self.unit in ("%", "points") else value

    def text(self, value: float | None) -> str:
        """The value in the heading's unit, without the unit."""
        if value is None:
            return NOTHING
        return f"{self.scaled(value):.2f}" if self.unit in ("%", "points") else count(value)


KNOWN = {
    "snn/test_acc": ("final accuracy", "%", 1),
    "ann/test_acc": ("accuracy of the ReLU network", "%", 1),
    "snn/acc_drop": ("accuracy lost", "points", -1),
    "snn/agreement": ("agreement with the ReLU network", "%", 1),
    "snn/time_to_1pct_ms": ("time to within one point", "ms", -1),
    "snn/steps_to_1pct": ("steps to within one point", "", -1),
    "snn/spikes_per_image": ("spikes per image", "", -1),
    "snn/synops_per_image": ("synaptic operations per image", "", -1),
    "ttfs/latency": ("latency of spike times", "input intervals", -1),
    "ttfs/certified": ("proved by the bound", "%", 1),
    "ttfs/early": ("early crossings", "%", -1),
    "ttfs/active": ("neurons that spike", "%", -1),
    "energy/snn_nj": ("energy per image", "nJ", -1),
    "energy/ann_nj": ("energy of the ReLU network", "nJ", -1),
    "time/total_s": ("wall time", "s", -1),
    "time/simulate_s": ("time to simulate", "s", -1),
}
TITLES = {
    "snn/test_acc": "Final accuracy of the spiking network",
    "snn/time_to_1pct_ms": "Simulated time until the accuracy stays within one point of its end",
    "snn/spikes_per_image": "Spikes of the whole network per image",
}
DEFAULT = (
    "snn/test_acc", "snn/acc_drop", "snn/time_to_1pct_ms", "ttfs/latency", "ttfs/certified",
    "snn/spikes_per_image", "snn/synops_per_image", "energy/snn_nj",
)  # fmt: skip


def metric(key: str) -> Measure:
    """The measure of a metric by its name."""
    words, unit, better = KNOWN.get(key, (key, "", 0))
    return Measure(key, words, unit, better, lambda run: run.number(key))


def measured(key: str, runs: Sequence[Run]) -> Measure:
    """The same, refused with an InputError where no run measured it."""
    names = sorted({name for run in runs for name in run.metrics if run.number(name) is not None})
    if key not in names:
        near = difflib.get_close_matches(key, names, n=3) or [name for name in DEFAULT if name in names] or names[:6]
        raise InputError(f"no run measured {key!r}; there are {', '.join(near)}, ... (the names in metrics.json)")
    return metric(key)


def latency(given: str) -> Measure:
    """The time an answer takes: `within`, to within one point of the run's own end, or the time to reach an accuracy.

    given: "within", or a fraction such as "0.98": the simulated time at which the accuracy first is that high.
    Raises InputError for anything else.
    """
    if given == "within":
        return metric("snn/time_to_1pct_ms")
    try:
        level = float(given)
    except ValueError:
        level = math.nan
    if not 0 < level <= 1:
        raise InputError(f"--latency {given}: expected within, or an accuracy as a fraction such as 0.98")
    return Measure(
        f"time_to_{given}", f"time to {100 * level:g} % accuracy", "ms", -1, lambda run: first_time(run, level)
    )


def first_time(run: Run, level: float) -> float | None:
    """The first time [ms] at which the curve is at `level` (fraction) or above; None where it never is."""
    pairs = zip(run.curve.get("time_ms", ()), run.curve.get("acc", ()), strict=False)
    return next((time for time, accuracy in pairs if accuracy >= level and math.isfinite(time)), None)
