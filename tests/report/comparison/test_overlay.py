"""Curves: all in one panel while few, else one panel per choice, and every run's curve is drawn once."""

import dataclasses

from respike.report import load_run
from respike.report.comparison import compare, overlay
from respike.report.comparison.effects import effect_figure
from respike.report.comparison.measures import metric
from respike.report.comparison.overlay import overlaid_curves
from respike.report.comparison.trade_figure import trade_off_figure


def test_few_runs_lie_over_each_other_by_name(grid_runs):
    figure = overlaid_curves(compare(grid_runs[:3]))
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert any(name.startswith("data_norm, rate 200 Hz") for name in names)
    assert any(name.startswith("ReLU network") for name in names)


def test_many_runs_get_a_panel_for_each_choice_but_the_colour(make_run, resolved):
    runs = []
    for threshold in (1, 2, 3, 4, 5, 6, 7):
        for rate in (100, 200):
            config = resolved(f"simulate.threshold={threshold}", f"encode.max_rate={rate}")
            runs.append(load_run(make_run(f"{threshold}-{rate}", config=config)))
    figure = overlaid_curves(compare(runs))
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()]
    assert titles == ["rate 100 Hz", "rate 200 Hz"]
    assert all(len([line for line in axes.get_lines() if len(line.get_xdata()) > 2]) == 7 for axes in figure.axes)
    assert [text.get_text() for text in figure.legends[0].get_texts()][:7] == list("1234567")


def test_steps_without_a_length_are_steps(grid_runs, monkeypatch):
    monkeypatch.setattr(overlay, "FEW", 3)
    curve = {"step": [1, 2], "acc": [0.4, 0.6]}
    runs = [dataclasses.replace(run, curve=curve) for run in grid_runs]
    figure = overlaid_curves(compare(runs))
    labels = {axes.get_xlabel() for axes in figure.axes if axes.get_visible()} - {""}
    assert len(figure.axes) > 2 and labels == {"simulated steps"}


def test_runs_without_curves_have_no_picture(grid_runs):
    assert overlaid_curves(compare([dataclasses.replace(run, curve={}) for run in grid_runs])) is None


def test_the_trade_off_picture_numbers_and_names_every_best_point(grid_runs):
    comparison = compare(grid_runs)
    text = " ".join(text.get_text() for text in trade_off_figure(comparison).axes[0].texts)
    for point in comparison.best:
        assert comparison.name(point) in text


def test_an_effect_has_the_mean_at_each_value(make_run, resolved):
    runs = [
        load_run(make_run(str(t), config=resolved(f"simulate.threshold={t}"), metrics={"snn/test_acc": 0.9 + 0.01 * t}))
        for t in (1, 2, 4)
    ]
    comparison = compare(runs)
    axes = effect_figure(comparison, comparison.settings[0], [metric("snn/test_acc")]).axes[0]
    assert [round(y, 6) for y in axes.get_lines()[0].get_ydata()] == [91, 92, 94]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "4"]
