"""Shares in percent at the latency of their zeta; accuracies at their noise, with the interval over trials."""

import pandas as pd
import pytest

from respike.figures.robustness import SHARES, recovery, robustness, zeta_trade_off
from respike.metrics.interval import student_interval

NET = pd.DataFrame(
    {
        "net": "",
        "zeta": [0.5, "auto", -0.7],
        "ttfs/latency": [10.0, 20.0, 3.0],
        "snn/test_acc": [0.98, 0.98, 0.9],
        "snn/test_acc ±": [0.01, None, 0.02],
        "ttfs/certified": [0.999, 1.0, None],
    }
)


def drawn(axes):
    line = next(line for line in axes.get_lines() if len(line.get_xdata()) > 1)
    return list(line.get_xdata()), list(line.get_ydata())


def test_each_share_is_drawn_in_percent_by_ascending_latency_with_its_zetas_above():
    accuracy, proved = zeta_trade_off(NET).axes[:2]
    assert drawn(accuracy) == ([3.0, 10.0, 20.0], pytest.approx([90, 98, 98]))
    assert drawn(proved) == ([10.0, 20.0], pytest.approx([99.9, 100]))
    assert accuracy.get_title(loc="left") == SHARES["snn/test_acc"]
    above = accuracy.child_axes[0]
    assert list(above.get_xticks()) == [3.0, 10.0, 20.0]
    assert [tick.get_text() for tick in above.get_xticklabels()] == ["−0.7", "0.5", "auto"]


def test_bars_end_at_the_panel_and_points_at_its_edge_are_whole():
    points = NET.assign(**{"snn/test_acc": [0.99, 1.0, 0.9], "snn/test_acc ±": 0.06})
    figure = zeta_trade_off(points, "500 test images of X")
    accuracy = figure.axes[0]
    assert accuracy.get_ylim()[1] < 105 and max(accuracy.get_yticks()) == pytest.approx(100)
    assert figure.get_suptitle().startswith("500 test images of X; ")
    line, *caps = (line for line in accuracy.get_lines() if len(line.get_xdata()) == 3)
    assert not line.get_clip_on() and caps and all(cap.get_clip_on() for cap in caps)


def test_kinds_keep_their_colours_and_those_not_listed_follow():
    runs = pd.DataFrame({"kind": ["own", "alpha"], "sigma": [0.1, 0.2], "accuracy": [0.9, 0.8]})

    def looks(rows):
        (axes,) = robustness(rows, kinds=["times", "alpha"]).axes
        return {len(line.get_xdata()) and line.get_ydata()[0]: line.get_color() for line in axes.get_lines()}

    both = looks(runs)
    assert both[90] != both[80] and looks(runs.iloc[1:])[80] == both[80]


def test_two_networks_stand_beside_each_other():
    axes = zeta_trade_off(pd.concat([NET.assign(net="a"), NET.assign(net="b")])).axes
    assert [a.get_title(loc="left").split("\n")[0] for a in axes[:2]] == ["a", "b"]
    assert drawn(axes[0]) == drawn(axes[1])


def test_noise_has_a_line_for_each_kind_with_its_interval_on_a_logarithmic_axis():
    trials = {("times", 0.1): [0.4, 0.6], ("times", 0.001): [0.88, 0.92], ("alpha", 0.01): [0.8]}
    runs = pd.DataFrame([(*at, value) for at, values in trials.items() for value in values])
    (axes,) = robustness(runs.set_axis(["kind", "sigma", "accuracy"], axis=1), 0.95, "mean of 2 trials").axes
    assert axes.get_xscale() == "log"
    times, alpha = (line for line in axes.get_lines() if line.get_marker() in ("o", "s") and len(line.get_xdata()))
    assert list(times.get_xdata()) == [0.001, 0.1] and list(times.get_ydata()) == pytest.approx([90, 50])
    ends = [segment[:, 1].tolist() for segment in axes.containers[0].lines[2][0].get_segments()]
    assert ends == [pytest.approx(student_interval(values)) for values in ([88, 92], [40, 60])]
    assert list(alpha.get_ydata()) == pytest.approx([80])
    assert [95.0, 95.0] in [list(line.get_ydata()) for line in axes.get_lines()]


def test_what_training_recovers_is_a_point_beside_what_was_lost():
    rows = [("levels", False, 0.95, 0.001), ("levels", True, 0.98, 0.002), ("drive", True, 0.99, 0.005)]
    points = pd.DataFrame(rows, columns=["what", "trained", "accuracy", "half"])
    (axes,) = recovery(points).axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["levels", "drive"]
    lost, recovered = (container.lines[0].get_xdata().tolist() for container in axes.containers)
    assert lost == pytest.approx([95]) and recovered == pytest.approx([98, 99])
    low, high = axes.containers[1].lines[2][0].get_segments()[1][:, 0]
    assert (low, high) == pytest.approx((98.5, 99.5))


def test_nothing_measured_is_an_error():
    with pytest.raises(ValueError, match="at least one"):
        recovery(pd.DataFrame({"what": [], "trained": [], "accuracy": [], "half": []}))
    with pytest.raises(ValueError, match="at least one"):
        zeta_trade_off(NET[["net", "zeta", "ttfs/latency"]])
    with pytest.raises(ValueError, match="at least one"):
        robustness(pd.DataFrame({"kind": [], "sigma": [], "accuracy": []}))
