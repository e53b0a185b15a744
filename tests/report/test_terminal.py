"""What a run, a row and a sweep say on the terminal: their own numbers, only those that they have, in narrow lines."""

import pytest

from respike.report.columns import NOTHING
from respike.report.terminal import jobs_text, numbers_text, run_text, time_left

SPIKE_TIMES = {"snn/steps_to_1pct": None, "snn/time_to_1pct_ms": None, "ttfs/latency": 14.456, "snn/agreement": 1.0}
DIRECT = {"ann/test_acc": None, "snn/agreement": None, "snn/time_to_1pct_ms": None, "snn/steps_to_1pct": 2}


def facts(text):
    """name -> cell of the lines below the heading."""
    lines = [line for line in text.splitlines()[1:] if not line.startswith(" " * 5)]
    return {line[2:21].strip(): line[21:] for line in lines}


def test_a_run_ends_with_its_numbers_the_published_ones_the_verdict_and_its_folder(make_run):
    path = make_run("diehl_fc")
    assert facts(run_text(path, 200)) == {
        "ReLU network": "98.65 %  (published 98.62 %)",
        "spiking network": "98.52 %  (published 98.60 %)",
        "agreement": "99.71 %",
        "within 1 point": "9\u00a0steps, 9\u00a0ms",
        "after steps": "1: 10.0, 2: 10.0, 4: 10.0, 8: 96.7, 16: 98.5, 32: 98.5, 40: 98.5\u00a0%",
        "spikes per image": "12,420",
        "verdict": "reproduced",
        "time with training": "3.3 min",
        "folder": str(path),
    }


@pytest.mark.parametrize("published", [98.6, "98.6 %"])
def test_a_published_number_that_is_no_fraction_does_not_hide_ours(make_run, published):
    path = make_run("fc", paper={"published": {"snn/test_acc": published}})
    assert facts(run_text(path, 200))["spiking network"] == "98.52 %"


@pytest.mark.parametrize(
    ("metrics", "there", "absent"),
    [
        (SPIKE_TIMES, {"latency": "14.5\u00a0intervals", "agreement": "100.00 %"}, {"within 1 point"}),
        (DIRECT, {"within 1 point": "2\u00a0steps"}, {"ReLU network", "agreement"}),
    ],
)
def test_numbers_that_a_method_does_not_have_are_left_out(make_run, metrics, there, absent):
    found = facts(run_text(make_run("run", metrics=metrics), 200))
    assert found | there == found and not absent & found.keys()
    assert NOTHING not in found.values()


def test_a_reduced_run_says_so_and_why(make_run):
    found = facts(run_text(make_run("run", metrics={"reduced": "1 of 5 epochs"}), 200))
    assert found["verdict"].startswith("reduced") and found["differs in"] == "reduced: 1 of 5 epochs"


def test_a_published_number_of_other_data_is_called_not_comparable(make_run):
    found = facts(run_text(make_run("run", metrics={"data": "Fashion-MNIST", "other_data": "Fashion-MNIST"}), 200))
    assert found["spiking network"] == "98.52 %  (published 98.60 %, not comparable)"


def test_a_run_that_cannot_be_judged_shows_its_numbers_and_why(make_run):
    found = facts(run_text(make_run("run", metrics={"snn/test_acc": None}), 300))
    assert found["ReLU network"].startswith("98.65 %") and "paper.headline" in found["verdict"]


@pytest.mark.parametrize("width", [40, 80])
def test_lines_fit_the_terminal_except_for_the_folder(make_run, width):
    path = make_run("run", metrics={"reduced": "; ".join(["500 of 60,000 training images"] * 4)})
    for line in run_text(path, width).splitlines():
        assert len(line) <= width or str(path) in line


def test_key_numbers_are_those_that_were_measured():
    assert numbers_text({"ann/test_acc": 0.987, "snn/test_acc": 0.5}) == "ReLU 98.70 %, spiking 50.00 %"
    assert numbers_text({"snn/test_acc": 0.5, "snn/agreement": 1}) == "spiking 50.00 %, agreement 100.00 %"


def test_an_estimate_is_said_only_where_there_is_one():
    assert time_left(90.0) == "about 1.5 min left"
    assert time_left(0.0) == time_left(float("nan")) == ""


def test_the_jobs_of_a_sweep_are_a_table_best_first(make_run):
    folders = []
    for rate, accuracy in ((100, 0.9), (200, 0.97), (400, 0.95)):
        encode = {"_target_": "respike.neurons.encode.Rate", "max_rate": rate}
        folders.append(
            make_run(f"rate={rate}", config={"encode": encode, "name": "a"}, metrics={"snn/test_acc": accuracy})
        )
    table = jobs_text(folders, 80)
    assert max(map(len, table.splitlines())) <= 80
    rows = [line.split() for line in table.splitlines() if line.strip()[:1].isdigit()]
    assert [row[0] for row in rows] == ["200", "400", "100"]
    assert [row[2] for row in rows] == ["97.00", "95.00", "90.00"]
    assert jobs_text(folders[:1], 80) == ""
