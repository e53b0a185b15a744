"""Runs of spike times compared: trials are averaged, zetas and noises are drawn, and rate runs stand in the same table."""

import pytest
from scipy import stats

from respike.report import load_runs
from respike.report.comparison import compare, write_comparison
from respike.report.comparison.compare import chosen_columns
from respike.report.comparison.curves import noise_figure, zeta_figure
from respike.report.comparison.listing import point_table

NO_RATES = {"snn/time_to_1pct_ms": None, "snn/steps_to_1pct": None, "snn/rate/input": None}


@pytest.fixture
def spike_times(make_run, resolved):
    """spike_times(name, accuracy, zeta=, latency=, **simulate) -> the path of a run of spike times, which keeps no curve."""

    base = resolved()

    def make(name, accuracy, zeta=0.5, latency=10.0, **simulate):
        config = base | {
            "convert": {"_target_": "respike.convert.exact.mapping.exact_map", "zeta": zeta},
            "encode": None,
            "callbacks": {},
            "simulate": {
                "_target_": "respike.simulate.ttfs.simulate_ttfs",
                **{"time_noise": 0.0, "alpha_noise": 0.0, "trial": 0, **simulate},
            },
        }
        measured = {"snn/test_acc": accuracy, "ttfs/latency": latency, "ttfs/certified": 0.9, "ttfs/early": 0.01}
        path = make_run(name, config=config, metrics=NO_RATES | measured)
        (path / "curves.csv").unlink()
        return path

    return make


@pytest.fixture
def noisy(spike_times):
    """Three trials at two deviations of spike times and one of alpha, and one without noise; accuracy falls by 0.01 a trial."""
    kinds = [("time_noise", 0.01, 0.9), ("time_noise", 0.1, 0.7), ("alpha_noise", 0.05, 0.8)]
    runs = [
        spike_times(f"{kind}-{sigma}-{trial}", accuracy - 0.01 * trial, **{kind: sigma, "trial": trial})
        for kind, sigma, accuracy in kinds
        for trial in range(3)
    ]
    return [*runs, spike_times("quiet", 0.95)]


def test_trials_are_one_point_and_noises_have_a_line_each(noisy):
    comparison = compare(load_runs(noisy))
    assert sorted(comparison.points["runs"]) == [1, 3, 3, 3]
    assert "1 to 3 trials" in comparison.seed_note() and "trials" in point_table(comparison, [0], [])
    (axes,) = noise_figure(comparison).axes
    times, alpha = (line for line in axes.get_lines() if line.get_marker() in ("o", "s") and len(line.get_xdata()))
    assert list(times.get_xdata()) == [0.01, 0.1] and list(times.get_ydata()) == pytest.approx([89, 69])
    assert list(alpha.get_xdata()) == [0.05] and list(alpha.get_ydata()) == pytest.approx([79])
    low, high = axes.containers[0].lines[2][0].get_segments()[0][:, 1]
    assert (high - low) / 2 == pytest.approx(stats.t.ppf(0.975, 2) * 1 / 3**0.5)
    assert [95.0, 95.0] in [list(line.get_ydata()) for line in axes.get_lines()]
    assert axes.get_title(loc="left").endswith("mean of 3 trials, 95 % interval")  # those that are drawn
    assert zeta_figure(comparison) is None


def test_a_kind_of_noise_has_its_colour_and_marker_whatever_else_is_drawn(spike_times):
    def look(*kinds):
        runs = [spike_times(f"{kinds}{kind}{sigma}", 0.9, **{kind: sigma}) for kind in kinds for sigma in (0.01, 0.1)]
        (axes,) = noise_figure(compare(load_runs(runs))).axes
        return [(line.get_color(), line.get_marker()) for line in axes.get_lines() if line.get_label() == "on alpha"]

    alone = look("alpha_noise")
    assert alone and look("alpha_noise", "time_noise") == alone == look("time_noise", "alpha_noise")


def test_each_zeta_stands_at_its_latency(spike_times):
    given = [(0.5, 10.0, 0.98), ("auto", 14.0, 0.98), (-0.7, 3.0, 0.9)]
    comparison = compare(load_runs([spike_times(f"z{zeta}", accuracy, zeta, late) for zeta, late, accuracy in given]))
    assert comparison.latency.key == "ttfs/latency"
    accuracy = zeta_figure(comparison).axes[0]
    line = next(line for line in accuracy.get_lines() if len(line.get_xdata()) == 3)
    assert list(line.get_xdata()) == [3.0, 10.0, 14.0] and list(line.get_ydata()) == pytest.approx([90, 98, 98])
    assert [tick.get_text() for tick in accuracy.child_axes[0].get_xticklabels()] == ["−0.7", "0.5", "auto"]
    assert noise_figure(comparison) is None


def test_rates_and_spike_times_share_a_table_and_a_page(noisy, spike_times, make_run, resolved, tmp_path):
    rates = [
        make_run(f"rate{t}", config=resolved(f"neuron.threshold={t}"), metrics={"snn/test_acc": 0.9 + t / 100})
        for t in (1, 2)
    ]
    comparison = compare(load_runs([*noisy, spike_times("small zeta", 0.6, -0.7, 3.0), *rates]))
    assert {s.key for s in comparison.settings} == {
        "convert._target_", "convert.zeta", "encode._target_", "neuron.threshold", "simulate.time_noise",
        "simulate.alpha_noise",
    }  # fmt: skip
    columns = chosen_columns(comparison)
    assert {"snn/test_acc", "snn/time_to_1pct_ms", "ttfs/latency", "snn/synops_per_image"} <= {c.key for c in columns}
    table = point_table(comparison, comparison.points.index, columns)
    assert set(table["latency of spike times (input intervals)"]) == {"10", "10 ± 0", "3", "–"}
    assert any("5 choices use spike times" in note for note in comparison.notes)
    best = comparison.points[comparison.points["best"]]
    assert set(best["runs"]) == {1} and best["convert.zeta"].isna().all()
    written = {path.name for path in write_comparison(comparison, tmp_path / "page", "Both")}
    assert {"compare-zeta.png", "compare-noise.png", "compare-trade-off.png", "compare-curves.png"} <= written
