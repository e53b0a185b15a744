"""Seeds: the interval is that of scipy, only seeds are pooled, and a repeated run counts once."""

import json

import pytest
from scipy import stats

from respike.report import load_runs
from respike.report.comparison import compare
from respike.report.comparison.compare import first_time, latency_column


@pytest.fixture
def seeded(make_run, resolved):
    """Two thresholds, seeds 0 to 2; accuracy 0.90, 0.91, 0.92 at threshold 1 and 0.05 higher at 2."""
    runs = []
    for threshold in (1, 2):
        for seed in range(3):
            config = resolved(f"neuron.threshold={threshold}", f"seed={seed}")
            metrics = {"snn/test_acc": 0.85 + 0.05 * threshold + 0.01 * seed}
            curve = [[s, float(s), 0.1 * s + 0.01 * seed, 0.9, 1.0] for s in range(1, 5)]
            runs.append(make_run(f"{threshold}-{seed}", config=config, metrics=metrics, curve=curve))
    return runs


def test_runs_that_differ_in_the_seed_alone_are_one_point(seeded):
    comparison = compare(load_runs(seeded))
    assert [setting.label for setting in comparison.settings] == ["threshold"]
    assert [setting.label for setting in comparison.seeds] == ["seed"]
    assert list(comparison.points["runs"]) == [3, 3]
    assert list(comparison.means["snn/test_acc"]) == pytest.approx([0.91, 0.96])
    half = stats.t.ppf(0.975, 2) * 0.01 / 3**0.5
    assert list(comparison.halves["snn/test_acc"]) == pytest.approx([half, half])


def test_a_mean_exists_only_where_every_run_measured_the_metric(seeded):
    file = seeded[0] / "metrics.json"
    metrics = json.loads(file.read_text())
    del metrics["snn/agreement"]
    file.write_text(json.dumps(metrics))
    means = compare(load_runs(seeded)).means["snn/agreement"]
    assert list(means.isna()) == [True, False]


def test_seeds_alone_can_be_compared(seeded):
    comparison = compare(load_runs(seeded[:3]))
    assert comparison.settings == () and len(comparison.points) == 1
    assert "mean of 3 seeds" in comparison.seed_note()


def test_a_run_repeated_counts_once_and_the_later_one_stays(seeded, make_run, resolved):
    again = make_run("again", config=resolved("neuron.threshold=1", "seed=0"), metrics={"snn/test_acc": 0.5})
    later = json.loads((again / "provenance.json").read_text()) | {"started": "2026-01-01T00:00:00"}
    (again / "provenance.json").write_text(json.dumps(later))
    comparison = compare(load_runs([again, *seeded]))
    assert len(comparison.runs) == 6 and 0.5 in set(comparison.runs["snn/test_acc"])
    assert any("1 earlier run is" in note for note in comparison.notes)


def test_which_run_is_later_is_told_by_the_clock_not_by_its_text(make_run, resolved):
    """W&B writes UTC, a machine its own time."""
    started = {"early": "2026-10-25T02:50:00+02:00", "late": "2026-10-25T02:10:00+01:00"}
    for name, time in started.items():
        run = make_run(
            name, config=resolved("neuron.threshold=1"), metrics={"snn/test_acc": 0.5 + 0.4 * (name == "late")}
        )
        told = json.loads((run / "provenance.json").read_text()) | {"started": time}
        (run / "provenance.json").write_text(json.dumps(told))
    other = make_run("other", config=resolved("neuron.threshold=2"))
    kept = compare(load_runs([run.parent / "late", run.parent / "early", other])).runs
    assert sorted(path.name for path in kept["path"]) == ["late", "other"]


def test_a_point_of_many_settings_has_the_name_of_its_run(make_run, resolved):
    keys = ["neuron.threshold", "encode.max_rate", "neuron.t_ref", "data.test_size", "data.train_size", "neuron.start"]
    keys += ["recipe.epochs", "recipe.batch_size", "recipe.optimizer.lr"]
    changed = [f"{key}={value}" for key, value in zip(keys, (2, 10, 0.001, 50, 60, 0.5, 2, 30, 0.5), strict=True)]
    paths = [
        make_run("first", config=resolved("name=first")),
        make_run("second", config=resolved("name=second", *changed)),
    ]
    comparison = compare(load_runs(paths))
    assert len(comparison.settings) > 8
    assert {comparison.name(point) for point in comparison.points.index} == {"first", "second"}


def test_the_time_to_an_accuracy_is_the_first_step_that_has_it(make_run, resolved):
    curve = [[s, 0.5 * s, acc, 0.9, 1.0] for s, acc in enumerate([0.1, 0.5, 0.98, 0.97, 0.99], start=1)]
    paths = [make_run(str(t), config=resolved(f"neuron.threshold={t}"), curve=curve) for t in (1, 2)]
    frame = load_runs(paths)
    assert first_time(frame["curve"].iloc[0], 0.98) == 1.5
    assert first_time(frame["curve"].iloc[0], 0.985) == 2.5
    assert first_time(frame["curve"].iloc[0], 0.995) != first_time(frame["curve"].iloc[0], 0.995)  # NaN
    assert list(compare(frame, "0.98").means[latency_column("0.98").key]) == [1.5, 1.5]
