"""The cells of a map over two numeric settings: what is coloured, what is written, and why one has no number."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from respike.report.comparison.gather import Comparison
from respike.report.comparison.measures import Measure
from respike.report.comparison.points import Point
from respike.report.comparison.stretched import error
from respike.report.comparison.trade_off import accuracy_of, useful, usefulness_floor
from respike.report.comparison.varied import Setting, is_number


@dataclass(frozen=True)
class Cell:
    """value: what is coloured, None for nothing; text: what is written; known: False for a hatched cell."""

    value: float | None
    text: str
    known: bool = True


def axis_values(comparison: Comparison, setting: Setting) -> list[Any]:
    """Ascending values, those of failed jobs included."""
    failed = {values[setting.key] for values in comparison.failed_values}
    return sorted({*setting.values, *(value for value in failed if is_number(value))})


def map_cells(
    comparison: Comparison, measure: Measure, points: Sequence[Point], x: tuple[Setting, list], y: tuple[Setting, list]
) -> dict[tuple[int, int], Cell]:
    """(column, row) -> cell, for each pair of values."""
    same_set = [point for point in comparison.points if point.data == points[0].data]
    worth = {id(point) for point in useful(same_set)}
    floor = 100 * usefulness_floor(same_set)
    others = {key: value for key, value in points[0].values.items() if key not in (x[0].key, y[0].key)}
    there = {(point.values[x[0].key], point.values[y[0].key]): point for point in points}
    cells = {}
    for column, at_x in enumerate(x[1]):
        for row, at_y in enumerate(y[1]):
            wanted = others | {x[0].key: at_x, y[0].key: at_y}
            cells[column, row] = _cell(measure, there.get((at_x, at_y)), worth, floor, wanted, comparison)
    return cells


def _cell(
    measure: Measure, point: Point | None, worth: set[int], floor: float, wanted: dict[str, Any], comparison: Comparison
) -> Cell:
    if point is None:
        return Cell(None, "failed" if wanted in comparison.failed_values else "not run", known=False)
    value, half = point.mean(measure), point.interval(measure)
    if value is None:
        return Cell(None, "never" if measure.key.startswith("time_to_") else "none", known=False)
    useless = id(point) not in worth and accuracy_of(point) is not None
    if useless and measure.unit == "ms":
        return Cell(None, f"accuracy\nunder {floor:.0f} %", known=False)
    text = f"{_short(measure, value)}\n±{_short(measure, half)}" if half is not None else _short(measure, value)
    if useless:
        return Cell(None, text)
    return Cell(error(point, measure) if measure.unit == "%" else measure.scaled(value), text)


def _short(measure: Measure, value: float) -> str:
    scaled = measure.scaled(value)
    if measure.unit == "%":
        return f"{scaled:.1f}"
    return f"{scaled / 1000:.1f}k" if abs(scaled) >= 1000 else f"{scaled:.3g}"
