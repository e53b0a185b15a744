"""Curves: in one panel while they are few, else one panel per choice; every run's curve is drawn once."""

import pandas as pd
import pytest

from respike.metrics.interval import student_interval
from respike.report import load_runs
from respike.report.columns import metric
from respike.report.comparison import compare, curves
from respike.report.comparison.curves import effect_figure, overlaid_curves


def test_few_runs_are_in_one_panel_by_name(grid_runs):
    figure = overlaid_curves(compare(grid_runs.iloc[:3]))
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert any(name.startswith("data_norm, rate 200 Hz") for name in names)
    assert any(name.startswith("ReLU network") for name in names)


def test_a_band_is_the_interval_over_the_seeds_at_each_step(make_run, resolved):
    paths = []
    for threshold in (1, 2):
        for seed in range(3):
            curve = [[s, float(s), 0.1 * s * threshold + 0.02 * seed, 0.9, 1.0] for s in range(1, 5)]
            config = resolved(f"neuron.threshold={threshold}", f"seed={seed}")
            paths.append(make_run(f"{threshold}-{seed}", config=config, curve=curve))
    figure = overlaid_curves(compare(load_runs(paths)))
    band = figure.axes[0].collections[0].get_paths()[0].vertices
    for step in range(1, 5):
        low, high = student_interval([100 * (0.1 * step + 0.02 * seed) for seed in range(3)])
        at = band[band[:, 0] == step][:, 1]
        assert (at.min(), at.max()) == pytest.approx((low, high))


def test_many_runs_get_a_panel_for_each_choice_but_the_colour(make_run, resolved):
    paths = []
    for threshold in (1, 2, 3, 4, 5, 6, 7):
        for rate in (100, 200):
            config = resolved(f"neuron.threshold={threshold}", f"encode.max_rate={rate}")
            paths.append(make_run(f"{threshold}-{rate}", config=config))
    figure = overlaid_curves(compare(load_runs(paths)))
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()]
    assert titles == ["rate 100 Hz", "rate 200 Hz"]
    assert all(len([line for line in axes.get_lines() if len(line.get_xdata()) > 2]) == 7 for axes in figure.axes)
    assert [text.get_text() for text in figure.legends[0].get_texts()][:7] == list("1234567")


def test_steps_without_a_length_are_steps(grid_runs, monkeypatch):
    monkeypatch.setattr(curves, "MOST_OVERLAID", 3)
    curve = pd.DataFrame({"step": [1, 2], "acc": [0.4, 0.6]})
    figure = overlaid_curves(compare(grid_runs.assign(curve=[curve] * len(grid_runs))))
    labels = {axes.get_xlabel() for axes in figure.axes if axes.get_visible()} - {""}
    assert len(figure.axes) > 2 and labels == {"simulated steps"}


def test_runs_without_curves_have_no_picture(grid_runs):
    assert overlaid_curves(compare(grid_runs.assign(curve=[pd.DataFrame()] * len(grid_runs)))) is None


def test_an_effect_has_the_mean_at_each_value(make_run, resolved):
    paths = [
        make_run(str(t), config=resolved(f"neuron.threshold={t}"), metrics={"snn/test_acc": 0.9 + 0.01 * t})
        for t in (1, 2, 4)
    ]
    comparison = compare(load_runs(paths))
    axes = effect_figure(comparison, comparison.settings[0], [metric("snn/test_acc")]).axes[0]
    assert [round(y, 6) for y in axes.get_lines()[0].get_ydata()] == [91, 92, 94]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "4"]


def test_the_bars_of_an_effect_are_the_intervals_over_the_seeds(make_run, resolved):
    paths = [
        make_run(
            f"{t}-{seed}", config=resolved(f"neuron.threshold={t}", f"seed={seed}"),
            metrics={"snn/test_acc": 0.9 + 0.01 * t * seed},
        )
        for t in (1, 2) for seed in range(3)
    ]  # fmt: skip
    comparison = compare(load_runs(paths))
    axes = effect_figure(comparison, comparison.settings[0], [metric("snn/test_acc")]).axes[0]
    segments = axes.containers[0].lines[2][0].get_segments()
    for segment, t in zip(segments, (1, 2), strict=True):
        assert tuple(segment[:, 1]) == pytest.approx(student_interval([90 + t * seed for seed in range(3)]))
