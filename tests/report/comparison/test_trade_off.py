"""Pareto's front is its definition by brute force; dead nets, other data sets and missing numbers stay out of it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from respike.report import load_runs
from respike.report.comparison import compare
from respike.report.comparison.trade_figure import trade_off_figure
from respike.report.comparison.trade_off import undominated

COSTS = st.tuples(*[st.integers(0, 4).map(float)] * 3)


@given(st.lists(COSTS, max_size=14))
def test_a_cost_is_kept_exactly_when_nothing_is_at_most_as_high_and_somewhere_lower(costs):
    for cost, kept in zip(costs, undominated(np.array(costs).reshape(-1, 3)), strict=True):
        beaten = False
        for other in costs:
            at_most = all(other[i] <= cost[i] for i in range(3))
            beaten |= at_most and any(other[i] < cost[i] for i in range(3))
        assert bool(kept) is not beaten


@given(st.lists(COSTS, min_size=1, max_size=14))
def test_every_cost_left_out_is_beaten_by_a_kept_one(costs):
    kept = [cost for cost, keep in zip(costs, undominated(np.array(costs).reshape(-1, 3)), strict=True) if keep]
    assert all(any(all(a <= b for a, b in zip(best, cost, strict=True)) for best in kept) for cost in costs)


def test_a_dead_net_is_fast_and_frugal_but_no_trade_off(grid_runs):
    points = compare(grid_runs).points
    dead = points[points["neuron.threshold"] == 2]
    assert len(dead) and not dead["best"].any()
    assert points["best"].any()


def test_the_most_accurate_run_of_each_data_set_is_a_best_trade_off(make_run, resolved):
    def run(name, threshold, accuracy, data):
        config = resolved(f"neuron.threshold={threshold}")
        return make_run(name, config=config, metrics={"data": data, "snn/test_acc": accuracy})

    easy = [run("a", 1, 0.99, "MNIST"), run("b", 2, 0.97, "MNIST")]
    hard = [run("c", 1, 0.80, "FashionMNIST"), run("d", 2, 0.85, "FashionMNIST")]
    comparison = compare(load_runs(easy + hard))
    assert set(comparison.means["snn/test_acc"][comparison.points["best"]]) == {0.99, 0.85}
    assert any(note.startswith("Different data sets") for note in comparison.notes)


def test_a_run_on_fewer_test_images_takes_no_part(make_run, resolved):
    def run(name, threshold, accuracy, images):
        config = resolved(f"neuron.threshold={threshold}")
        return make_run(name, config=config, metrics={"test_images": images, "snn/test_acc": accuracy})

    comparison = compare(load_runs([run("few", 1, 1.0, 10), run("all", 2, 0.97, 10_000)]))
    assert list(comparison.points["best"]) == [False, True]
    assert any("1 choice was tested on fewer images" in note for note in comparison.notes)


def test_the_figure_numbers_and_names_every_best_point(grid_runs):
    comparison = compare(grid_runs)
    axes = trade_off_figure(comparison).axes[0]
    text = " ".join(text.get_text() for text in axes.texts)
    best = comparison.points.index[comparison.points["best"]]
    for point in best:
        assert comparison.name(point) in text
    assert {str(i) for i in range(1, len(best) + 1)} < {text.get_text() for text in axes.texts}


def test_best_points_that_hide_each_other_share_a_label(make_run, resolved):
    def run(threshold, accuracy, nanojoules):
        metrics = {"snn/test_acc": accuracy, "energy/snn_low_nj": nanojoules, "snn/time_to_1pct_ms": 6.0}
        return make_run(f"run{threshold}", config=resolved(f"neuron.threshold={threshold}"), metrics=metrics)

    runs = [run(1, 0.9871, 2000.0), run(2, 0.98705, 1000.0), run(3, 0.95, 100.0)]
    axes = trade_off_figure(compare(load_runs(runs))).axes[0]
    labels = {text.get_text(): text.xy for text in axes.texts if len(text.get_text()) < 6}
    assert set(labels) == {"1, 2", "3"} and labels["1, 2"] == (6.0, 100 - 98.71)


def test_a_cost_that_all_have_is_said_once_and_has_no_colour_bar(make_run, resolved):
    def drawn(*nanojoules):
        runs = [
            make_run(
                f"{nanojoules}-{i}", config=resolved(f"neuron.threshold={i + 1}"), metrics={"energy/snn_low_nj": n}
            )
            for i, n in enumerate(nanojoules)
        ]
        figure = trade_off_figure(compare(load_runs(runs)))
        points = [c for c in figure.axes[0].collections if len(getattr(c, "get_sizes", list)())]
        colours = {tuple(colour) for collection in points for colour in collection.get_facecolors()[:, :3]}
        return len(figure.axes), len(colours), figure.get_suptitle()

    assert drawn(500.0, 900.0)[:2] == (2, 2)
    panels, colours, title = drawn(500.0001, 500.0002)
    assert panels == 1 == colours and title.endswith("energy with memory, low end: 500 nJ at every point")


def test_labels_cover_no_other_point(grid_runs):
    figure = trade_off_figure(compare(grid_runs))
    figure.draw_without_rendering()
    axes = figure.axes[0]
    panel = axes.get_window_extent()
    assert axes.get_legend() is None and not figure.legends[0].get_window_extent().overlaps(panel)
    names, *numbers = sorted(axes.texts, key=lambda text: -len(text.get_text()))
    assert not names.get_window_extent().overlaps(panel)
    drawn = [tuple(point) for collection in axes.collections for point in getattr(collection, "get_offsets", list)()]
    for number in numbers:
        assert tuple(number.xy) in drawn and number.get_ha() == "center" == number.get_va()
