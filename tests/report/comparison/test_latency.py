"""Accuracy in few steps: one network for all T is read off its curve, one for each T counts at its T; a figure per network."""

import copy
import json

import pytest

from respike.figures.curves import accuracy_in_few_steps
from respike.metrics.interval import half_interval
from respike.report import load_runs
from respike.report.comparison import compare, write_comparison
from respike.report.comparison.latency import (
    few_steps_text,
    latency_means,
    latency_networks,
    latency_table,
    ordered_methods,
)
from respike.system.files import read_csv

MMSE = {"_target_": "respike.convert.rate.mmse.mmse_norm", "scale": "channel"}


def accuracy(method, t, draw):
    """A different number for each."""
    return {"layer": 0.3, "channel": 0.4, "mmse": 0.5}[method] + 0.04 * t.bit_length() + 0.002 * draw * (draw + 1)


def curve(method, steps, draw, first=1):
    """Rows of curves.csv, without an accuracy before the first step that is read."""
    return [[t, float(t), accuracy(method, t, draw) if t >= first else "", 0.9, 100.0 * t] for t in range(1, steps + 1)]


@pytest.fixture(scope="module")
def base(resolved):
    return resolved("neuron=soft", "encode=current", "convert=percentile", "convert.readout=current")


@pytest.fixture
def make(make_run, base):
    """make(method, steps, draw, **more) -> a run of percentile_norm per layer or channel, or of mmse for so many steps."""

    def run(method, steps, draw, name="", read_from=0, converted_for=0, **paper):
        config = copy.deepcopy(base)
        config["simulate"] |= {"duration": steps / 1000, "read_from": read_from}
        config["callbacks"]["convert"]["calibration_seed"] = draw
        config["convert"]["scale"] = method
        if method == "mmse":
            config["convert"] = MMSE | {"steps": converted_for or steps}
        if name:
            config["model"] = {"_target_": "respike.networks.mlp.MLP", "sizes": [784, 10]}
        config["paper"] |= paper
        metrics = {"ann/test_acc": 0.91, "snn/synops_per_image": 1000.0 * steps, "time/convert_s": 2.0 + draw}
        rows = curve(method, steps, draw, read_from + 1)
        return make_run(f"{name}{method}-{steps}-{draw}-{read_from}", config=config, metrics=metrics, curve=rows)

    return run


@pytest.fixture
def paths(make):
    several = [make(scale, 32, draw) for scale in ("layer", "channel") for draw in (0, 1, 2)]
    return [*several, *(make("mmse", steps, draw) for steps in (2, 8, 16) for draw in (0, 1, 2))]


def test_every_T_has_the_mean_over_the_draws_of_what_was_converted_for_it(paths):
    (network,) = latency_networks(compare(load_runs(paths)))
    means = latency_means(network).set_index(["method", "steps"])
    methods = {"percentile, per layer": "layer", "percentile, per channel": "channel", "mmse, per channel": "mmse"}
    assert set(means.index) == {(name, t) for name in list(methods)[:2] for t in (1, 2, 4, 8, 16, 32)} | {
        ("mmse, per channel", t) for t in (2, 8, 16)
    }
    for (name, t), row in means.iterrows():
        values = [100 * accuracy(methods[name], t, draw) for draw in (0, 1, 2)]
        assert row["acc"] == pytest.approx(sum(values) / 3) and row["acc ±"] == pytest.approx(half_interval(values))
        assert row["runs"] == 3 and row["spikes"] == pytest.approx(100.0 * t) and row["convert_s"] == pytest.approx(3)
    assert means.at[("mmse, per channel", 8), "synops"] == 8000
    assert (network.relu, network.cost_at) == (pytest.approx(91), 16)
    assert "mean of 3 draws of calibration images" in network.said


def test_a_job_that_is_missing_is_in_the_number_of_draws(paths):
    (network,) = latency_networks(compare(load_runs(paths[:-1])))
    assert "mean of 2 to 3 draws of calibration images" in network.said


def test_the_table_has_the_best_method_first_and_published_values_last(make, paths):
    published = {"curve": [[4, 0.7], [16, 0.8]], "curve_source": "somebody 2000"}
    runs = compare(load_runs([*paths, make("layer", 32, 3, **published)]))  # not the first run of the network
    table = latency_table(latency_networks(runs)[0])
    assert list(table["method"])[:2] == ["mmse, per channel", "percentile, per channel"]
    assert table["method"].iloc[-1] == "published: somebody 2000"
    assert table.iloc[-1][["T = 4 (%)", "T = 8 (%)", "T = 16 (%)"]].tolist() == ["70.00", "–", "80.00"]
    assert [column for column in table.columns if column.startswith("T =")] == [
        f"T = {t} (%)" for t in (1, 2, 4, 8, 16, 32)
    ]
    assert table.iloc[0]["T = 4 (%)"] == "–" and "±" in table.iloc[0]["T = 8 (%)"]


def test_published_values_are_not_shown_beside_other_data(make, paths):
    run = make("layer", 32, 3, curve=[[4, 0.7]], curve_source="somebody 2000")
    assert latency_networks(compare(load_runs([*paths, run])))[0].published
    metrics = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps(metrics | {"other_data": "Fashion-MNIST"}))
    assert latency_networks(compare(load_runs([*paths, run])))[0].published == {}


def test_a_network_of_its_own_has_a_figure_of_its_own_where_there_is_something_to_compare(make, paths):
    published = {"curve": [[2, 0.7], [16, 0.8]], "curve_source": "somebody 2000"}
    other = make("layer", 32, 0, name="other", title="Another net", **published)
    networks = latency_networks(compare(load_runs([*paths, other])))
    assert [network.title for network in networks] == [networks[0].title, "Another net"]
    assert networks[1].published == {"published: somebody 2000": [(2, 70), (16, 80)]} and networks[1].has_figure
    lonely = make("layer", 32, 0, name="lonely", title="Another net")
    assert not latency_networks(compare(load_runs([*paths, lonely])))[1].has_figure
    network = networks[1]
    drawn = accuracy_in_few_steps(network.rows, ordered_methods(network), network.published, ("ReLU", 91.0), "title")
    names = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert names == ["percentile", "published: somebody 2000", "ReLU: 91.00 %"]
    marks = next(line for line in drawn.axes[0].get_lines() if line.get_label() == names[1])
    assert (list(marks.get_xdata()), list(marks.get_ydata())) == ([2, 16], [70, 80])


def test_a_delayed_read_out_is_another_method_without_values_before_it(make, paths):
    rows = latency_networks(compare(load_runs([*paths, make("layer", 32, 0, read_from=5)])))[0].rows
    late = rows[rows["method"] == "percentile, per layer, read after t0 = 5"]
    assert list(late["steps"]) == [8, 16, 32]


def test_the_last_step_is_shown_though_it_is_no_power_of_two(make):
    runs = load_runs([make("layer", 40, 0), make("channel", 40, 0), make("channel", 40, 0, read_from=32)])
    table = latency_table(latency_networks(compare(runs))[0])
    assert len(table) == 3 and not table[["T = 40 (%)", "spikes, T = 40"]].eq("–").any(axis=None)


def test_a_network_for_one_T_that_is_simulated_for_longer_is_a_method_of_its_own(paths, make):
    longer = [make("mmse", 64, draw, converted_for=8) for draw in (0, 1, 2)]
    rows = latency_networks(compare(load_runs([*paths, *longer])))[0].rows
    found = rows[rows["method"] == "mmse, per channel, for T = 8"]
    assert sorted(found["steps"].unique()) == [1, 2, 4, 8, 16, 32, 64] and not found["each_T"].any()
    assert set(rows["steps"][rows["method"] == "mmse, per channel"]) == {2, 8, 16}


def test_of_two_lengths_of_one_simulation_the_longer_one_counts(make):
    short_and_long = [make("layer", 8, 0), make("layer", 32, 0), make("channel", 32, 0)]
    rows = latency_networks(compare(load_runs(short_and_long)))[0].rows
    assert not rows.duplicated(["method", "steps"]).any() and rows["steps"].max() == 32


def test_the_page_has_the_networks_in_place_of_figures_over_T(paths, tmp_path):
    comparison = compare(load_runs(paths))
    write_comparison(comparison, tmp_path / "out", "Few steps")
    page = (tmp_path / "out" / "index.html").read_text()
    assert "Accuracy in few steps" in page and page.count('class="latency"') == 1
    assert len(list((tmp_path / "out").glob("compare-*.png"))) == 1
    table = read_csv(tmp_path / "out" / "latency.csv")
    assert list(table[table["method"] == "mmse, per channel"]["steps"]) == [2, 8, 16]
    assert "mmse, per channel" in few_steps_text(comparison, 160)


def test_runs_that_differ_in_more_than_the_conversion_are_compared_as_before(grid_runs, make, make_run, resolved):
    assert latency_networks(compare(grid_runs)) == []
    hard = make_run("hard", config=resolved("encode=current", "convert=percentile", "neuron=diehl"))
    assert latency_networks(compare(load_runs([make("layer", 40, 0), hard]))) == []
