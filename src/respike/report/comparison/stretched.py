"""An accuracy scale that is logarithmic in the error: 99 and 99.5 % lie as far apart as 98 and 99 %."""

from collections.abc import Sequence

from matplotlib.ticker import MaxNLocator

from respike.report.comparison.measures import Measure
from respike.report.comparison.points import Point

TICKS = (0.0, 50.0, 80.0, 90.0, 95.0, 98.0, 99.0, 99.5, 99.8, 99.9, 99.95)  # % accuracy


def error(point: Point, accuracy: Measure) -> float:
    """100 minus the mean accuracy in %, at least that of half an image, for a logarithmic scale."""
    images = max(float(run.metrics["test_images"]) for run in point.runs)
    return max(100 - accuracy.scaled(point.mean(accuracy)), 50 / images)


def ticks(low: float, high: float) -> tuple[list[float], list[str]]:
    """Errors from `low` to `high` to mark, and the accuracies they are called by; round ones even in a narrow range."""
    marked: Sequence[float] = [tick for tick in TICKS if low <= 100 - tick <= high]
    if len(marked) < 3:
        inside = MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(100 - high, 100 - low)
        marked = [float(tick) for tick in inside if low <= 100 - tick <= high]
    return [100 - tick for tick in marked], [f"{tick:g}" for tick in marked]
