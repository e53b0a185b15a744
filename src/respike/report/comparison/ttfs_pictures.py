"""What compared runs of spike times show: the margin zeta against latency and exactness, and what noise costs."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from respike.figures.robustness import SHARES, robustness, zeta_trade_off
from respike.report.comparison.gather import Comparison
from respike.report.comparison.measures import metric
from respike.report.comparison.points import Point
from respike.report.comparison.varied import is_number

ZETA = "convert.zeta"
NOISES = {
    "simulate.time_noise": "on spike times",
    "simulate.alpha_noise": "on alpha",
    "simulate.weight_noise": "on weights, as a share",
}
OWN_FIGURE = (ZETA, *NOISES)  # settings that need no map and no figure of their effect
MOST_NETS = 4
ACCURACY = "snn/test_acc"


def zeta_figure(comparison: Comparison) -> Figure | None:
    """A column for each choice of the other settings; None where no two runs of spike times differ in zeta alone."""
    late = metric("ttfs/latency")
    found: dict[str, list[Point]] = {}
    for point in comparison.points:
        if point.values.get(ZETA) is not None and point.mean(late) is not None:
            found.setdefault(comparison.name(point, [ZETA]), []).append(point)
    found = {name: points for name, points in found.items() if len(points) > 1}
    nets = {}
    for name, points in list(found.items())[:MOST_NETS]:
        columns = {"zeta": [p.values[ZETA] for p in points], late.key: [p.mean(late) for p in points]}
        for key in SHARES:
            columns |= _columns(key, points)
        nets[name if len(found) > 1 else ""] = columns
    return zeta_trade_off(nets) if nets else None


def noise_figure(comparison: Comparison) -> Figure | None:
    """A line for each kind of noise and choice of the other settings; None where no noise is varied."""
    varied = [setting.key for setting in comparison.settings if setting.key in NOISES]
    quiet = [point for point in comparison.points if not any(_noise(point, key) for key in varied)]
    found: dict[tuple[str, str], list[Point]] = {}
    for point in comparison.points:
        disturbed = [key for key in varied if _noise(point, key)]
        if len(disturbed) == 1 and point.mean(metric(ACCURACY)) is not None:
            found.setdefault((disturbed[0], comparison.name(point, varied)), []).append(point)
    several = len({name for _, name in found}) > 1
    kinds = {
        f"{NOISES[key]}, {name}" if several else NOISES[key]: {"sigma": [_noise(point, key) for point in points]}
        | _columns(ACCURACY, points)
        for (key, name), points in found.items()
    }
    quiet = [point for point in quiet if comparison.name(point, varied) in {name for _, name in found}]
    undisturbed = quiet[0].mean(metric(ACCURACY)) if len(quiet) == 1 else None
    title = "; ".join(filter(None, (comparison.measured_on(), comparison.seed_note())))
    return robustness(kinds, undisturbed, title) if kinds else None


def _noise(point: Point, key: str) -> float:
    """The deviation, 0 where a run has no such noise."""
    value = point.values.get(key)
    return float(value) if is_number(value) else 0.0


def _columns(key: str, points: Sequence[Point]) -> dict[str, list[float | None]]:
    measure = metric(key)
    return {key: [p.mean(measure) for p in points], f"{key} ±": [p.interval(measure) for p in points]}
