"""The figure of a search with two objectives."""

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from respike.figures.style import DPI, INK, PALETTE, plain_axes


def front_figure(trials: pd.DataFrame, best: pd.DataFrame) -> Figure:
    """Every trial, and the Pareto front: the trials for which no other trial is better in both objectives.

    trials, best: a row per trial, a column per objective; the second objective is drawn to the right.
    """
    y, x = trials.columns[:2]
    figure = Figure(figsize=(6.4, 4.4), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    sns.scatterplot(trials, x=x, y=y, color="0.7", label=f"{len(trials)} trials", ax=axes)
    sns.lineplot(
        best, x=x, y=y, color=PALETTE[0], marker="o", estimator=None, label=f"front, {len(best)} trials", ax=axes
    )
    plain_axes(axes, grid="both")
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    axes.legend(loc="lower right", frameon=False, labelcolor=INK)
    return figure
