"""A finished run reads back as it was written; anything else is refused in one line."""

import json
import math

import pytest

from respike.errors import InputError
from respike.report.collect import find_runs, find_unfinished, load_run


def test_a_run_reads_back_as_written(make_run):
    run = load_run(make_run("diehl_fc"))
    assert run.name == "diehl_fc"
    assert run.config["encode"]["max_rate"] == 1000
    assert run.paper["headline"] == "snn/test_acc"
    assert run.number("snn/test_acc") == 0.9852
    assert len(run.curve["acc"]) == 40 and run.curve["time_ms"][-1] == 40.0
    assert run.provenance["data"]["name"] == "MNIST"


def test_layers_keep_the_order_of_the_network(make_run):
    assert list(load_run(make_run("a")).family("snn/rate/")) == ["input", "fc1", "fc2", "fc3"]


def test_only_finite_numbers_are_numbers(make_run):
    run = load_run(make_run("a", metrics={"x/nan": math.nan, "x/text": "0.5", "x/flag": True, "x/number": 2}))
    assert [run.number(f"x/{name}") for name in ("nan", "text", "flag", "number", "absent")] == [None] * 3 + [2.0, None]
    assert run.family("x/") == {"number": 2.0}


def test_a_run_without_a_curve_has_an_empty_one(make_run):
    path = make_run("a")
    (path / "curves.csv").unlink()
    assert load_run(path).curve == {}


def test_an_empty_cell_is_not_a_number(make_run):
    path = make_run("a")
    (path / "curves.csv").write_text("step,time_ms,acc,agreement,spikes_per_image\n1,,0.5,,3\n")
    curve = load_run(path).curve
    assert curve["acc"] == [0.5] and math.isnan(curve["time_ms"][0])


BREAKAGES = {
    "missing metrics": lambda path: (path / "metrics.json").unlink(),
    "half-written metrics": lambda path: (path / "metrics.json").write_text('{"data": "MNI'),
    "metrics that are a list": lambda path: (path / "metrics.json").write_text("[]"),
    "metrics that do not say whether reduced": lambda path: (path / "metrics.json").write_text(
        json.dumps({"data": "MNIST", "test_images": 10000})
    ),
    "missing config": lambda path: (path / "config.yaml").unlink(),
    "broken config": lambda path: (path / "config.yaml").write_text("a: [1"),
    "unresolved config": lambda path: (path / "config.yaml").write_text("a: ${nowhere}"),
    "config that is a list": lambda path: (path / "config.yaml").write_text("- a"),
    "missing provenance": lambda path: (path / "provenance.json").unlink(),
    "a word in the curve": lambda path: (path / "curves.csv").write_text("step,acc\n1,high\n"),
    "a curve without accuracy": lambda path: (path / "curves.csv").write_text("step\n1\n"),
    "an empty curve": lambda path: (path / "curves.csv").write_text(""),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_broken_runs_are_refused_in_one_line_that_names_the_file(make_run, breakage):
    path = make_run("a")
    BREAKAGES[breakage](path)
    with pytest.raises(InputError) as caught:
        load_run(path)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message


def test_a_missing_directory_is_refused(tmp_path):
    for read in (load_run, find_runs, find_unfinished):
        with pytest.raises(InputError, match="no such"):
            read(tmp_path / "nowhere")


def test_runs_are_found_at_any_depth_sorted_by_name_and_unfinished_ones_apart(make_run, tmp_path):
    for name in ("sweep/1/b", "a", "c"):
        make_run(name)
    (make_run("half") / "metrics.json").unlink()
    hydra = tmp_path / "runs/a/.hydra"
    hydra.mkdir()
    (hydra / "config.yaml").write_text("name: hydra keeps its own copy")
    assert [run.name for run in find_runs(tmp_path)] == ["a", "b", "c"]
    assert find_unfinished(tmp_path) == [tmp_path / "runs/half"]


def test_a_hidden_parent_hides_nothing(make_run, tmp_path):
    make_run("../.hidden/a")
    assert [run.name for run in find_runs(tmp_path / ".hidden")] == ["a"]
