"""The 95 % interval of a mean over seeds or trials: t(0.975, n - 1) s / sqrt(n), Student 1908."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


def half_interval(values: Sequence[float]) -> float:
    """Half the width of the interval, in the unit of the values; NaN for fewer than two values or a NaN among them."""
    given = np.asarray(values, dtype=float)
    if given.size < 2 or np.isnan(given).any():
        return math.nan
    if given.min() == given.max():  # the computed deviation of equal numbers may be a rounding error
        return 0.0
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, given.size - 1) * stats.sem(given))


def student_interval(values: Sequence[float]) -> tuple[float, float]:
    """The lower and the upper end of the interval: an `errorbar` for seaborn."""
    mean, half = float(np.mean(values)), half_interval(values)
    return mean - half, mean + half
