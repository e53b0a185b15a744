"""The picture of a search with two objectives."""

from collections.abc import Sequence

from matplotlib.figure import Figure

Point = tuple[float, float]


def front_figure(points: Sequence[Point], front: Sequence[Point], names: Sequence[str]) -> Figure:
    """Every trial's two values, and the front of those that no other beats in both; the second objective to the right."""
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.scatter(*_swap(points), color="0.7", label=f"{len(points)} trials")
    axes.plot(*_swap(sorted(front, key=lambda point: point[1])), "o-", label=f"front, {len(front)} of them")
    axes.set_xlabel(names[1])
    axes.set_ylabel(names[0])
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    return figure


def _swap(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [point[1] for point in points], [point[0] for point in points]
