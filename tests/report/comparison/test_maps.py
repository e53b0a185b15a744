"""What a map shows is what the runs measured, cell by cell; what is missing says why."""

import re

import pytest

from respike.report import load_runs
from respike.report.columns import metric
from respike.report.comparison import compare
from respike.report.comparison.maps import heat_map
from respike.report.comparison.page import _maps


def cells_of(axes):
    """(x value, y value) -> text, read off the axes as a person would."""
    xs = [label.get_text() for label in axes.get_xticklabels()]
    ys = [label.get_text() for label in axes.get_yticklabels()]
    return {
        (float(xs[int(text.get_position()[0])]), float(ys[int(text.get_position()[1])])): text.get_text()
        for text in axes.texts
    }


def grid_folder(runs):
    return runs["path"].iloc[0].parent


def maps(comparison, name):
    y, x = comparison.axes()[:2]
    figure = heat_map(comparison, metric(name), x, y)
    return figure, {axes.get_title(loc="left"): axes for axes in figure.axes if axes.get_title(loc="left")}


def test_threshold_and_rate_are_the_axes_and_normalizations_the_panels(grid_runs):
    figure, found = maps(compare(grid_runs), "snn/test_acc")
    assert found.keys() == {"no normalization", "data_norm"}
    assert {axes.get_xlabel() for axes in found.values()} == {"rate (Hz)"}
    assert next(iter(found.values())).get_ylabel() == "threshold"
    assert "10,000 test images of MNIST" in figure.get_suptitle()


def test_every_cell_holds_the_number_of_its_run(grid_runs):
    _, found = maps(compare(grid_runs), "snn/test_acc")
    panel = {
        "respike.convert.rate.normalize.no_norm": "no normalization",
        "respike.convert.rate.normalize.data_norm": "data_norm",
    }
    for _, run in grid_runs.iterrows():
        at = run["cfg.encode.max_rate"], run["cfg.neuron.threshold"]
        text = cells_of(found[panel[run["cfg.convert._target_"]]])[at]
        assert float(text) == pytest.approx(100 * run["snn/test_acc"], abs=0.051)


def test_missing_and_failed_cells_say_so(grid_runs, grid_configs, make_failure):
    comparison = compare(grid_runs)
    assert cells_of(maps(comparison, "snn/test_acc")[1]["no normalization"])[200, 1] == "not run"
    failed = make_failure("job", grid_configs[1, 200, "none"], ["neuron.threshold=1"], "out of memory")
    comparison = compare(load_runs([grid_folder(grid_runs), failed.parent]))
    assert cells_of(maps(comparison, "snn/test_acc")[1]["no normalization"])[200, 1] == "failed"


def test_a_value_at_which_every_job_failed_still_has_its_row(grid_runs, resolved, make_failure):
    config = resolved("neuron.threshold=9", "encode.max_rate=200", "convert=none")
    comparison = compare(load_runs([grid_folder(grid_runs), make_failure("job", config, [], "too high").parent]))
    cells = cells_of(maps(comparison, "snn/test_acc")[1]["no normalization"])
    assert cells[200, 9] == "failed" and cells[1000, 9] == "not run"


def test_dead_nets_neither_squash_the_colours_nor_have_a_time(grid_runs):
    comparison = compare(grid_runs)
    figure, _ = maps(comparison, "snn/test_acc")
    errors = [100 - 100 * value for value in grid_runs["snn/test_acc"] if value > 0.5]
    low, high = sorted(figure.axes[-1].get_ylim())
    assert (low, high) == pytest.approx((min(errors), max(errors)))
    times = cells_of(maps(comparison, "snn/time_to_1pct_ms")[1]["data_norm"])
    assert re.fullmatch(r"accuracy\nunder \d+ %", times[200, 2]) and float(times[200, 0.5]) == 2.5


def test_cells_of_several_seeds_show_the_interval(make_run, resolved):
    runs = []
    for threshold in (1, 2):
        for rate in (100, 200):
            for seed in (0, 1):
                config = resolved(f"neuron.threshold={threshold}", f"encode.max_rate={rate}", f"seed={seed}")
                accuracy = {"snn/test_acc": 0.9 + 0.02 * seed}
                runs.append(make_run(f"{threshold}-{rate}-{seed}", config=config, metrics=accuracy))
    figure, _ = maps(compare(load_runs(runs)), "snn/test_acc")
    assert set(cells_of(figure.axes[0]).values()) == {"91.0\n±12.7"}
    assert "mean of 2 seeds" in figure.get_suptitle()


def test_a_search_that_forms_no_grid_is_points_at_its_values(make_run, resolved):
    tried = [(0.5, 100), (0.7, 230), (1.1, 310), (1.6, 480), (1.9, 950)]
    runs = []
    for threshold, rate in tried:
        config = resolved(f"neuron.threshold={threshold}", f"encode.max_rate={rate}")
        runs.append(make_run(str(rate), config=config))
    figure, _ = maps(compare(load_runs(runs)), "snn/test_acc")
    drawn = {tuple(at) for dots in figure.axes[0].collections for at in dots.get_offsets().tolist()}
    assert drawn == {(rate, threshold) for threshold, rate in tried} and not figure.axes[0].texts
    captions = [picture.caption for picture, _ in _maps(compare(load_runs(runs)))]
    assert captions and all(text.startswith("Crosses have no number. ") and "Hatched" not in text for text in captions)


def test_a_job_that_failed_on_a_value_that_is_no_number_gets_no_row(grid_runs, resolved, make_failure):
    config = resolved("encode.max_rate=200", "convert=none")
    config["neuron"]["threshold"] = "high"
    comparison = compare(load_runs([grid_folder(grid_runs), make_failure("job", config, [], "not a number").parent]))
    assert {at[1] for at in cells_of(maps(comparison, "snn/test_acc")[1]["data_norm"])} == {0.5, 1, 2}
