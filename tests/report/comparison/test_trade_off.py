"""Pareto's front is its definition by brute force; dead nets, other data sets and missing numbers stay out of it."""

from hypothesis import given
from hypothesis import strategies as st

from respike.report import load_run
from respike.report.comparison import compare
from respike.report.comparison.measures import first_time, latency
from respike.report.comparison.trade_off import undominated

COSTS = st.tuples(*[st.integers(0, 4).map(float)] * 3)


@given(st.lists(COSTS, max_size=14))
def test_a_cost_is_kept_exactly_when_nothing_is_at_most_as_high_and_somewhere_lower(costs):
    for cost, kept in zip(costs, undominated(costs), strict=True):
        beaten = False
        for other in costs:
            at_most = all(other[i] <= cost[i] for i in range(3))
            beaten |= at_most and any(other[i] < cost[i] for i in range(3))
        assert kept is not beaten


@given(st.lists(COSTS, min_size=1, max_size=14))
def test_every_cost_left_out_is_beaten_by_a_kept_one(costs):
    kept = [cost for cost, keep in zip(costs, undominated(costs), strict=True) if keep]
    assert all(any(all(a <= b for a, b in zip(best, cost, strict=True)) for best in kept) for cost in costs)


def test_a_dead_net_is_fast_and_frugal_but_no_trade_off(grid_runs):
    comparison = compare(grid_runs)
    dead = [point for point in comparison.points if point.values["simulate.threshold"] == 2]
    assert dead and not any(point in comparison.best for point in dead)
    assert comparison.best


def test_the_most_accurate_run_of_each_data_set_is_a_best_trade_off(make_run, resolved):
    def run(name, threshold, accuracy, data):
        config = resolved(f"simulate.threshold={threshold}")
        return load_run(make_run(name, config=config, metrics={"data": data, "snn/test_acc": accuracy}))

    easy = [run("a", 1, 0.99, "MNIST"), run("b", 2, 0.97, "MNIST")]
    hard = [run("c", 1, 0.80, "FashionMNIST"), run("d", 2, 0.85, "FashionMNIST")]
    comparison = compare(easy + hard)
    assert {point.runs[0].name for point in comparison.best} <= {run.name for run in easy + hard}
    assert {point.runs[0].number("snn/test_acc") for point in comparison.best} == {0.99, 0.85}
    assert any(note.startswith("Different data sets") for note in comparison.notes)


def test_the_time_to_an_accuracy_is_the_first_step_that_has_it(make_run):
    curve = [[s, 0.5 * s, acc, 0.9, 1.0] for s, acc in enumerate([0.1, 0.5, 0.98, 0.97, 0.99], start=1)]
    run = load_run(make_run("a", curve=curve))
    assert first_time(run, 0.98) == latency("0.98").of(run) == 1.5
    assert first_time(run, 0.985) == 2.5 and first_time(run, 0.995) is None
