"""What the figures show: every curve in percent, published points, a readable top, and whole files only."""

import struct

import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from respike.figures import curves as figures
from respike.figures.layers import firing_rates
from respike.figures.style import DPI, save


def curve(final: float, steps: int = 40, **columns) -> dict[str, list[float]]:
    times = [float(step) for step in range(1, steps + 1)]
    acc = [0.1 + (final - 0.1) * min(1.0, time / 10) for time in times]
    return {"step": times, "time_ms": times, "acc": acc, "agreement": acc} | columns


def lines_of(axes) -> dict[str, object]:
    return {line.get_label(): line for line in axes.get_lines()}


def test_curves_are_drawn_in_percent_against_milliseconds():
    curves = {"normalized": curve(0.985), "raw": curve(0.963)}
    figure = figures.accuracy_over_time(curves)
    for axes in figure.axes:
        drawn = lines_of(axes)
        assert list(drawn) == ["normalized: 98.50 %", "raw: 96.30 %"]
        assert drawn["raw: 96.30 %"].get_ydata()[-1] == pytest.approx(96.3)
        assert axes.get_xlabel() == "simulated time (ms)"


def test_the_range_over_seeds_is_shaded_in_the_colour_of_its_curve():
    mean = curve(0.9)
    ends = {end: [shift + share for share in mean["acc"]] for end, shift in (("acc_low", -0.05), ("acc_high", 0.02))}
    for axes in figures.accuracy_over_time({"a": {**mean, **ends}, "b": curve(0.97)}).axes:
        (shade,) = axes.collections
        corners = shade.get_paths()[0].vertices
        assert (corners[:, 1].min(), corners[:, 1].max()) == pytest.approx((100 * min(ends["acc_low"]), 92))
        assert shade.get_facecolor()[0][:3] == pytest.approx(to_rgb(axes.get_lines()[0].get_color()))


def test_the_right_panel_enlarges_the_top_and_shows_every_end_near_it():
    figure = figures.accuracy_over_time({"a": curve(0.985), "b": curve(0.963), "far": curve(0.5)}, ann={"ReLU": 0.9865})
    low, high = figure.axes[1].get_ylim()
    assert 50 < low < 96.3 and 98.65 < high <= 100.25 and high - low < 6


@pytest.mark.parametrize("final", [0.0, 0.1, 1.0])
def test_extreme_accuracies_still_give_a_panel(final):
    low, high = figures.accuracy_over_time({"a": curve(final)}).axes[1].get_ylim()
    assert 0 <= low < 100 * final + 0.2 and low < high


def test_published_points_are_open_markers_and_the_relu_network_is_dashed():
    figure = figures.accuracy_over_time({"a": curve(0.98)}, {"published": [(10, 0.1194), (20, 0.98)]}, {"ReLU": 0.99})
    drawn = lines_of(figure.axes[0])
    published, relu = drawn["published"], drawn["ReLU: 99.00 %"]
    assert published.get_linestyle() == "None" and list(published.get_ydata()) == pytest.approx([11.94, 98.0])
    assert relu.get_linestyle() == "--" and set(relu.get_ydata()) == {99.0}


def test_a_network_of_one_curve_shares_its_colour_and_its_legend_entry():
    figure = figures.accuracy_over_time({"a": curve(0.98), "b": curve(0.97)}, ann={"a": 0.99, "b": 0.985})
    whole = figure.axes[0]
    assert len(figure.legends[0].get_texts()) == 2
    colours = {line.get_color() for line in whole.get_lines() if set(line.get_ydata()) == {99.0}}
    assert colours == {lines_of(whole)["a: 98.00 % (dashed: ReLU network 99.00 %)"].get_color()}


def test_without_times_the_axis_counts_steps_and_timed_points_are_left_out():
    stepwise = {"a": curve(0.98, time_ms=[float("nan")] * 40)}
    figure = figures.accuracy_over_time(stepwise, {"published": [(10, 0.5)]})
    assert figure.axes[0].get_xlabel() == "simulated steps"
    assert list(lines_of(figure.axes[0])) == ["a: 98.00 %"]


def test_twenty_curves_are_told_apart_by_colour_and_dash():
    figure = figures.accuracy_over_time({str(i): curve(0.9) for i in range(20)})
    looks = {(line.get_color(), str(line._unscaled_dash_pattern)) for line in figure.axes[0].get_lines()}
    assert len(looks) == 20


def test_more_methods_than_markers_are_drawn():
    rows = pd.DataFrame(
        [{"method": str(i), "each_T": False, "steps": t, "acc": 50.0 + i} for i in range(20) for t in (1, 2)]
    )
    drawn = figures.accuracy_in_few_steps(rows, [str(i) for i in range(20)], {}, ("ReLU", 90.0), "x")
    assert {str(i) for i in range(20)} <= {text.get_text() for text in drawn.legends[0].get_texts()}


def test_accuracy_and_agreement_are_two_curves_of_one_run():
    assert len(figures.accuracy_and_agreement(curve(0.98)).axes[0].get_lines()) == 2


def test_a_net_that_was_not_converted_has_no_agreement_to_draw():
    trained = curve(0.98, agreement=[float("nan")] * 40)
    assert list(lines_of(figures.accuracy_and_agreement(trained).axes[0])) == ["accuracy: 98.00 %"]


def test_firing_rates_have_a_bar_per_layer_first_layer_on_top():
    axes = firing_rates({"input": 103.0, "fc1": 61.5, "fc2": 0.0}).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [103.0, 61.5, 0.0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["input", "fc1", "fc2"]
    assert axes.yaxis_inverted()
    assert firing_rates({"input": 0.0}).axes[0].get_xlim()[0] == 0


def test_nothing_to_draw_is_an_error():
    for draw in (figures.accuracy_over_time, firing_rates):
        with pytest.raises(ValueError, match="expected at least one"):
            draw({})


def test_a_saved_figure_is_a_png_of_twice_the_size_and_leaves_nothing_beside(tmp_path):
    figure = firing_rates({"fc1": 1.0})
    save(figure, tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    width, height = struct.unpack(">II", content[16:24])
    assert content.startswith(b"\x89PNG")
    assert (width, height) == pytest.approx(tuple(2 * DPI * figure.get_size_inches()), abs=1)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_failed_save_keeps_the_earlier_picture(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"earlier")
    figure = firing_rates({"fc1": 1.0})

    def fail_half_way(file, **_):
        file.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(figure, "savefig", fail_half_way)
    with pytest.raises(OSError, match="disk full"):
        save(figure, path)
    assert path.read_bytes() == b"earlier" and list(tmp_path.iterdir()) == [path]


def test_the_same_figure_is_the_same_bytes(tmp_path):
    for name in ("a.png", "b.png"):
        save(figures.accuracy_over_time({"a": curve(0.98)}), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_legend_of_many_curves_leaves_the_panels_their_height():
    def height(number):
        curves = {f"a long name of a curve, number {i} of many, reduced": curve(0.985) for i in range(number)}
        figure = figures.accuracy_over_time(curves)
        figure.draw_without_rendering()
        legend = figure.legends[0].get_window_extent()
        boxes = [axes.get_window_extent() for axes in figure.axes]
        assert not any(legend.overlaps(box) for box in boxes)
        return boxes[0].height

    assert height(12) == pytest.approx(height(2), rel=0.05)


def test_a_dollar_in_a_name_is_a_dollar(tmp_path):
    figure = figures.accuracy_over_time({r"$\frac{$": curve(0.985), r"a$b$c": curve(0.9)}, ann={r"$x^": 0.99})
    save(figure, tmp_path / "a.png")
    assert not any(text.get_parse_math() for text in figure.findobj(Text))


def test_powers_of_ten_at_a_logarithmic_axis_stay_formulas(tmp_path):
    figure = Figure()
    figure.subplots().loglog([1, 1e5], [1, 1e5])
    save(figure, tmp_path / "a.png")
    labels = figure.axes[0].get_xticklabels()
    assert all(label.get_parse_math() for label in labels) and any(
        "mathdefault" in label.get_text() for label in labels
    )
