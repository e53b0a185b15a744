"""Seeds: the interval is scipy's, only seeds are pooled, and a repeated run counts once."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from respike.report import load_run
from respike.report.comparison import compare
from respike.report.comparison.measures import metric
from respike.report.comparison.points import half_interval, mean_of

ACCURACY = metric("snn/test_acc")


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9).filter(lambda values: np.std(values) > 1e-6))
def test_the_interval_is_that_of_scipy(values):
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    half = half_interval(values)
    assert mean_of(values) - half == pytest.approx(low) and mean_of(values) + half == pytest.approx(high)


def test_one_value_or_a_missing_one_has_no_interval():
    assert half_interval([0.5]) is None and half_interval([0.5, None, 0.6]) is None and mean_of([None, 1.0]) is None
    assert half_interval([0.5, 0.5]) == 0


@pytest.fixture
def seeded(make_run, resolved):
    """Two thresholds, seeds 0 to 2; accuracy 0.90, 0.91, 0.92 at threshold 1 and 0.05 higher at 2."""
    runs = []
    for threshold in (1, 2):
        for seed in range(3):
            config = resolved(f"simulate.threshold={threshold}", f"seed={seed}")
            metrics = {"snn/test_acc": 0.85 + 0.05 * threshold + 0.01 * seed}
            curve = [[s, float(s), 0.1 * s + 0.01 * seed, 0.9, 1.0] for s in range(1, 5)]
            path = make_run(f"{threshold}-{seed}", config=config, metrics=metrics, curve=curve)
            runs.append(load_run(path))
    return runs


def test_runs_that_differ_in_the_seed_alone_are_one_point(seeded):
    comparison = compare(seeded)
    assert [setting.label for setting in comparison.settings] == ["threshold"]
    assert [setting.label for setting in comparison.seeds] == ["seed"]
    assert [len(point.runs) for point in comparison.points] == [3, 3]
    assert [point.mean(ACCURACY) for point in comparison.points] == pytest.approx([0.91, 0.96])
    assert comparison.points[0].interval(ACCURACY) == pytest.approx(stats.t.ppf(0.975, 2) * 0.01 / 3**0.5)
    assert comparison.points[0].curve()["acc"] == pytest.approx([0.11, 0.21, 0.31, 0.41])
    assert comparison.points[0].band() == pytest.approx([stats.t.ppf(0.975, 2) * 0.01 / 3**0.5] * 4)


def test_seeds_alone_can_be_compared(seeded):
    comparison = compare(seeded[:3])
    assert comparison.settings == () and len(comparison.points) == 1
    assert "mean of 3 seeds" in comparison.seed_note()


def test_a_run_typed_again_counts_once_and_the_later_one_stays(seeded, make_run, resolved):
    again = make_run("again", config=resolved("simulate.threshold=1", "seed=0"), metrics={"snn/test_acc": 0.5})
    told = json.loads((again / "provenance.json").read_text()) | {"started": "2026-01-01T00:00:00"}
    (again / "provenance.json").write_text(json.dumps(told))
    comparison = compare([load_run(again), *seeded])
    assert len(comparison.runs) == 6 and 0.5 in {run.number("snn/test_acc") for run in comparison.runs}
    assert any("1 earlier run is" in note for note in comparison.notes)
