"""Rows come sorted as asked, and the csv gives back every setting and metric of every run."""

import csv
import json
from pathlib import Path

import pytest

from respike.errors import InputError
from respike.report.comparison import compare
from respike.report.comparison.compare import chosen_columns, sorted_points
from respike.report.comparison.listing import means_to_csv, to_csv, to_text


def values(comparison, points, name):
    return list(comparison.means.loc[points, name])


def test_metrics_sort_best_first_settings_ascending_and_a_dash_turns_round(grid_runs):
    comparison = compare(grid_runs)
    accuracies, energies = (list(grid_runs[name]) for name in ("snn/test_acc", "energy/snn_nj"))
    by = {name: sorted_points(comparison, name) for name in ("", "-snn/test_acc", "energy/snn_nj", "-energy/snn_nj")}
    assert values(comparison, by[""], "snn/test_acc") == sorted(accuracies, reverse=True)
    assert values(comparison, by["-snn/test_acc"], "snn/test_acc") == sorted(accuracies)
    assert values(comparison, by["energy/snn_nj"], "energy/snn_nj") == sorted(energies)
    assert values(comparison, by["-energy/snn_nj"], "energy/snn_nj") == sorted(energies, reverse=True)
    for name in ("threshold", "neuron.threshold"):
        thresholds = list(comparison.points.loc[sorted_points(comparison, name), "neuron.threshold"])
        assert thresholds == sorted(thresholds)


@pytest.mark.parametrize("name", ["snn/test_ac", "threshhold", "nonsense"])
def test_unknown_names_are_refused_with_what_there_is(grid_runs, name):
    with pytest.raises(InputError, match=r"snn/test_acc|neuron\.threshold") as caught:
        sorted_points(compare(grid_runs), name)
    assert "\n" not in str(caught.value) and name in str(caught.value)
    with pytest.raises(InputError, match="no run measured"):
        chosen_columns(compare(grid_runs), [name])


def records_of(comparison, path, out):
    to_csv(comparison, sorted_points(comparison), path, out)
    with path.open(newline="", encoding="utf-8") as file:
        return {record["run"]: record for record in csv.DictReader(file)}


def test_csv_round_trip(grid_runs, tmp_path):
    comparison = compare(grid_runs)
    records = records_of(comparison, tmp_path / "comparison.csv", tmp_path / "out")
    assert len(records) == len(grid_runs)
    best = comparison.points.index[comparison.points["best"]]
    winners = set(comparison.runs["path"][comparison.runs["point"].isin(best)])
    for _, run in grid_runs.iterrows():
        record = records[str(run["path"])]
        assert float(record["neuron.threshold"]) == run["cfg.neuron.threshold"]
        assert float(record["encode.max_rate"]) == run["cfg.encode.max_rate"]
        assert record["convert"] == run["cfg.convert._target_"]
        assert record["data"] == "MNIST" and record["best_trade_off"] == str(int(run["path"] in winners))
        for name, value in json.loads((run["path"] / "metrics.json").read_text()).items():
            assert record[name] == str(value)


def test_runs_below_the_folder_of_the_page_are_named_relative_to_it(grid_runs, tmp_path, monkeypatch):
    folder = grid_runs["path"].iloc[0].parent
    assert set(grid_runs["path"].map(lambda path: path.parent)) == {folder}
    names = {path.name for path in grid_runs["path"]}
    assert set(records_of(compare(grid_runs), tmp_path / "comparison.csv", folder)) == names
    monkeypatch.chdir(folder)
    assert set(records_of(compare(grid_runs), tmp_path / "comparison.csv", Path("."))) == names


def test_means_have_a_line_per_point(grid_runs, tmp_path):
    comparison = compare(grid_runs)
    means_to_csv(comparison, comparison.points.index, chosen_columns(comparison), tmp_path / "means.csv")
    with (tmp_path / "means.csv").open(newline="", encoding="utf-8") as file:
        records = list(csv.DictReader(file))
    assert [float(r["snn/test_acc"]) for r in records] == list(comparison.means["snn/test_acc"])
    assert {r["seeds"] for r in records} == {"1"} and {r["snn/test_acc ±"] for r in records} == {""}


def test_the_terminal_table_has_a_line_per_point_and_says_what_it_leaves_out(grid_runs):
    comparison = compare(grid_runs)
    text = to_text(comparison, list(comparison.points.index), chosen_columns(comparison), 110, most=5)
    assert "... and 6 more in comparison.csv" in text
    assert text.splitlines()[-2].split()[0] in ("none", "data_norm")
