"""The best trade-offs: settings that no other beats in accuracy, latency and energy at once (Pareto's front)."""

from collections.abc import Sequence

from respike.report.comparison.measures import Measure
from respike.report.comparison.points import Point, same_data

# A net that is mostly wrong settles at once and spends nothing: it would be "the fastest" of every comparison.
USELESS = 0.5


def front(points: Sequence[Point], objectives: Sequence[Measure]) -> list[Point]:
    """The points that no other of the same data set beats; useless ones and ones that lack an objective stay out.

    objectives: each with its better end; of equal points all are kept.
    """
    best = []
    for group in same_data(points).values():
        worth = [point for point in useful(group) if all(point.mean(m) is not None for m in objectives)]
        costs = [tuple(-m.better * point.mean(m) for m in objectives) for point in worth]
        kept = undominated(costs)
        best += [point for point, keep in zip(worth, kept, strict=True) if keep]
    return best


def undominated(costs: Sequence[tuple[float, ...]]) -> list[bool]:
    """For each tuple of costs (less is better), whether no other is at most as high in all and lower in one."""
    return [not any(_dominates(other, cost) for other in costs) for cost in costs]


def useful(points: Sequence[Point]) -> list[Point]:
    """The points of one data set with at least half of the best accuracy."""
    floor = usefulness_floor(points)
    return [point for point in points if (accuracy_of(point) or 0.0) >= floor]


def usefulness_floor(points: Sequence[Point]) -> float:
    """Half of the best accuracy among the points, a fraction."""
    return USELESS * max((accuracy_of(point) or 0.0 for point in points), default=0.0)


def accuracy_of(point: Point) -> float | None:
    """Mean final accuracy: of the spiking net, a fraction."""
    found = [run.number("snn/test_acc") for run in point.runs]
    known = [value for value in found if value is not None]
    return sum(known) / len(known) if known else None


def _dominates(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b
