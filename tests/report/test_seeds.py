"""Runs that differ in the seed alone are one row with the closed forms of its mean and its interval."""

import csv
import json
import math

import numpy as np
import pytest

from respike.report import judge, load_runs, to_csv, to_text, write_report
from respike.report.columns import DETAILS, RESULTS
from respike.report.groups import Group, caption, group_figure
from respike.report.summary import circumstances, provenance
from respike.report.verdicts import BELOW, REPRODUCED

ACCURACIES = (0.98, 0.986, 0.992)  # mean 0.986, standard deviation 0.006
HALF = 4.302652729696142 * 0.006 / math.sqrt(3)  # t(0.975, 2) s / sqrt(n)


@pytest.fixture
def seeds(make_run):
    """seeds(accuracies, **config) -> the folders of runs of one row, seed 0 first."""

    def make(accuracies=ACCURACIES, **config):
        return [
            make_run(
                f"row{f'-seed{k}' if k else ''}",
                config={"name": "row", "seed": k, "simulate": {"seed": k, "dt": 0.001}, **config},
                metrics={"snn/test_acc": accuracy, "snn/steps_to_1pct": 9 + k},
            )
            for k, accuracy in enumerate(accuracies)
        ]

    return make


def cells(row):
    return {column.key: column.cell(row) for column in (*RESULTS, *DETAILS)}


def test_a_row_has_the_mean_the_interval_and_the_number_of_seeds(seeds, tmp_path):
    rows = judge(load_runs(seeds()))
    (row,) = (run for _, run in rows.iterrows())
    assert row.name == "row" and row["seeds"] == 3 and row["cfg.seed"] == "0, 1, 2"
    assert row["ours"] == pytest.approx(0.986) and row["snn/steps_to_1pct"] == 10
    said = f"98.60 ± {100 * HALF:.2f} %"
    assert cells(row)["ours"] == said == cells(row)["snn/test_acc"] and cells(row)["seeds"] == "3"
    assert said in to_text(rows, 200)
    to_csv(rows, tmp_path / "results.csv")
    with (tmp_path / "results.csv").open(newline="", encoding="utf-8") as file:
        (record,) = csv.DictReader(file)
    assert float(record["half_interval"]) == pytest.approx(HALF) and record["seed"] == "0, 1, 2"


@pytest.mark.parametrize(
    ("accuracies", "ours"),
    [
        (ACCURACIES, HALF),  # the seeds differ by more than the test images allow for
        ((0.986, 0.986, 0.986), 2 * math.sqrt(0.986 * 0.014 / 10000)),  # or not at all
    ],
)
def test_the_tolerance_has_both_errors(seeds, accuracies, ours):
    row = judge(load_runs(seeds(accuracies))).iloc[0]
    assert row["tolerance"] == pytest.approx(math.hypot(2 * math.sqrt(0.986 * 0.014 / 10000), ours))


def test_two_seeds_that_differ_widely_surpass_nothing(seeds):
    assert judge(load_runs(seeds((0.988, 0.998)))).iloc[0]["verdict"] == REPRODUCED


def test_a_seed_without_the_number_is_named(seeds):
    paths = seeds()
    file = paths[1] / "metrics.json"
    metrics = json.loads(file.read_text())
    file.write_text(json.dumps({name: value for name, value in metrics.items() if name != "snn/test_acc"}))
    failure = judge(load_runs(paths)).iloc[0]["failure"]
    assert failure.startswith(f"{paths[1]}: judged on snn/test_acc, which its metrics.json lacks")


def test_where_a_seed_ran_does_not_keep_it_apart(seeds, make_run):
    more = {
        "data": {"root": "/other"},
        "trainer": {"devices": 2.0, "max_epochs": 3.0},
        "simulate": {"seed": 3, "dt": 0.001},
    }
    other = make_run("row-seed3", config={"name": "row", "seed": 3, **more})
    paths = seeds(data={"root": "/here"}, trainer={"devices": 1, "max_epochs": 3})
    assert list(judge(load_runs([*paths, other]))["seeds"]) == [4]


def test_a_mean_below_the_published_number_is_below(seeds):
    assert judge(load_runs(seeds((0.976, 0.977, 0.978)))).iloc[0]["verdict"] == BELOW


def test_a_single_run_has_no_interval(seeds):
    row = judge(load_runs(seeds(ACCURACIES[:1]))).iloc[0]
    assert cells(row)["ours"] == "98.00 %" and row["seeds"] == 1


def test_runs_that_differ_in_more_or_repeat_a_seed_stay_apart(seeds, make_run):
    paths = seeds()
    other = make_run(
        "other", config={"name": "row", "seed": 3, "simulate": {"seed": 0, "dt": 0.001}}
    )  # a fixed seed of spikes
    titled = make_run("titled", config={"seed": 4, "simulate": {"seed": 4, "dt": 0.001}}, paper={"title": "seed 4"})
    assert list(judge(load_runs([*paths, other, titled]))["seeds"]) == [3, 1, 1]
    again = make_run("again", config={"name": "row", "seed": 0, "simulate": {"seed": 0, "dt": 0.001}})
    assert list(judge(load_runs([*paths, again]))["seeds"]) == [1, 1, 1, 1]


def test_a_seed_that_is_the_same_in_all_runs_keeps_none_apart(seeds):
    """That of the drawn digits is 0 for every run, so it equals the run's own seed in one of them."""
    rows = judge(load_runs(seeds(data={"dataset": {"seed": 0}})))
    assert list(rows["seeds"]) == [3]


def test_the_curve_has_the_mean_and_the_range_of_the_seeds(make_run):
    accuracies = np.array([[0.1, 0.5, 0.98], [0.3, 0.6, 0.97], [0.2, 0.4, 0.99]])  # of three seeds, step by step
    paths = [
        make_run(
            f"row-seed{k}",
            config={"name": "row", "seed": k},
            curve=[[t, t, acc, 1.0, 0] for t, acc in enumerate(row, 1)],
        )
        for k, row in enumerate(accuracies)
    ]
    merged = judge(load_runs(paths)).iloc[0]["curve"]
    assert list(merged["acc"]) == pytest.approx(list(accuracies.mean(0)))
    assert list(merged["acc_low"]) == list(accuracies.min(0)) and list(merged["acc_high"]) == list(accuracies.max(0))
    (paths[1] / "curves.csv").unlink()
    alone = judge(load_runs(paths))
    assert list(alone.iloc[0]["curve"]["acc"]) == list(accuracies[0]) and "acc_low" not in alone.iloc[0]["curve"]
    said = caption(Group("of seed 0", alone))
    assert "of the lowest seed: row" in said and "shaded" not in said


def test_a_run_in_spike_time_has_the_interval_of_its_seeds_or_of_its_images(make_run):
    def run(name, what, accuracy, seed=0, train=False):
        read_once = [[1, 1, accuracy, 1.0, 0]]
        config = {"name": name, "seed": seed, "start": "exact_fc", "train": train}
        paper, metrics = {"title": f"net, {what}, x"}, {"snn/test_acc": accuracy}
        return make_run(name + str(seed), config=config, paper=paper, metrics=metrics, curve=read_once)

    paths = [run("drive", "drive", accuracy, seed) for seed, accuracy in enumerate(ACCURACIES)]
    judged = judge(load_runs([*paths, run("tuned", "drive", 0.9, train=True)]))
    (axes,) = group_figure(Group("in spike time", judged)).axes
    bars = [container.lines[2][0].get_segments()[0][:, 0] for container in axes.containers]
    assert [(high - low) / 200 for low, high in bars] == pytest.approx([HALF, 1.959964 * math.sqrt(0.9 * 0.1 / 10_000)])


def test_a_row_has_the_commits_of_all_its_seeds_and_the_budget_of_their_mean(seeds):
    paths = seeds(budget_min=1.0)
    for k, path in enumerate(paths):
        facts = json.loads((path / "provenance.json").read_text())
        facts |= {"git_commit": "ab"[k > 0] * 40, "started": f"2025-11-2{k + 1}T10:00:00"}
        (path / "provenance.json").write_text(json.dumps(facts))
        times = {"time/total_s": 100.0, "time/fit_s": 80.0, "time/fit_was_cached": float(k > 0)}
        measured = json.loads((path / "metrics.json").read_text())
        (path / "metrics.json").write_text(json.dumps(measured | times))
    rows = judge(load_runs(paths))
    assert circumstances(rows).endswith("from commits aaaaaaaaaa, bbbbbbbbbb.")
    assert circumstances(rows).startswith("Run 2025-11-21 to 2025-11-23 on ")
    assert not rows.iloc[0]["over_budget"]  # 100, 20 and 20 s
    facts = dict(provenance(rows.iloc[0]))
    assert (
        facts["started"] == "2025-11-21T10:00:00 to 2025-11-23T10:00:00"
        and facts["git commit"] == f"{'a' * 40}; {'b' * 40}"
    )


def test_what_one_seed_lacks_has_no_mean(seeds):
    paths = seeds()
    measured = json.loads((paths[1] / "metrics.json").read_text())
    (paths[1] / "metrics.json").write_text(json.dumps(measured | {"snn/spikes_per_neuron": None}))
    row = judge(load_runs(paths)).iloc[0]
    assert math.isnan(row["snn/spikes_per_neuron"]) and row["snn/agreement"] == 0.9971


def test_the_page_shows_the_mean_and_links_every_seed(seeds, tmp_path):
    paths = seeds()
    write_report(load_runs(paths), {}, tmp_path / "out", "Seeds")
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert (
        f"98.60 ± {100 * HALF:.2f} %" in page and "mean over seeds, shaded from the worst to the best: row (3)" in page
    )
    for path in paths:
        assert f'href="../runs/{path.name}/"' in page
