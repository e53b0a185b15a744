"""The best trade-offs: points that no other beats in accuracy, latency and energy at once (the Pareto front)."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from respike.report.columns import Column

ACCURACY = "snn/test_acc"
# A network that is mostly wrong settles at once and spends nothing: it would be the fastest of every comparison.
USELESS = 0.5


def front(means: pd.DataFrame, data: pd.Series, objectives: Sequence[Column]) -> pd.Series:
    """Whether no other point of the same data set beats a point; False for useless ones and where an objective is missing.

    means: a row per point. data: the data set of each, None for a point that takes no part. objectives: each with its better
    end; equal points all stay.
    """
    costs = pd.DataFrame({o.key: -o.better * means[o.key] for o in objectives})
    ranked = costs[useful(means, data) & costs.notna().all(axis=1)]
    best = pd.Series(False, means.index)
    for _, group in ranked.groupby(data.loc[ranked.index]):
        best[group.index] = undominated(group.to_numpy())
    return best


def undominated(costs: np.ndarray) -> np.ndarray:
    """For each row of costs (less is better), whether no other row is at most as high everywhere and lower somewhere."""
    at_most = (costs[:, None] <= costs[None]).all(axis=2)  # [other, row]
    lower = (costs[:, None] < costs[None]).any(axis=2)
    return np.logical_not((at_most & lower).any(axis=0))


def useful(means: pd.DataFrame, data: pd.Series) -> pd.Series:
    """Whether a point has at least half of the best accuracy on its data set."""
    return means[ACCURACY].fillna(0.0) >= useful_from(means, data)


def useful_from(means: pd.DataFrame, data: pd.Series) -> pd.Series:
    """Half of the best accuracy on each point's data set, a fraction."""
    return USELESS * means[ACCURACY].fillna(0.0).groupby(data).transform("max")
