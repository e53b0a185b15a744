"""A finished run reads back as it was written; anything else is refused in one line."""

import json
import math

import pytest

from respike.errors import InputError
from respike.report import load_runs
from respike.report.runs import flat_settings, numbers, read_run, with_skipped


def test_a_run_reads_back_as_written(make_run):
    path = make_run("diehl_fc")
    frame = load_runs([path])
    (run,) = (run for _, run in frame.iterrows())
    assert (run.name, run["name"], run["path"], run["failure"]) == ("diehl_fc", "diehl_fc", path, "")
    assert run["cfg.encode.max_rate"] == 1000 and run["cfg.model.widths"] == "[784, 1200, 1200, 10]"
    assert run["cfg.paper.published.snn/test_acc"] == 0.986
    assert len(run["curve"]) == 40 and run["curve"]["time_ms"].iloc[-1] == 40.0
    assert run["provenance.data.name"] == "MNIST"
    for name, value in json.loads((path / "metrics.json").read_text()).items():
        assert run[name] == value and type(run[name]) is type(value)


def test_layers_keep_the_order_of_each_network(make_run):
    runs = [
        make_run("a", metrics={"snn/rate/fc1": None, "snn/rate/fc2": None, "snn/rate/conv": 1.0, "snn/rate/out": 2.0}),
        make_run("b"),
    ]
    rates = load_runs(runs)["rates"]
    assert [name.removeprefix("snn/rate/") for name in rates["a"]] == ["input", "fc3", "conv", "out"]
    assert [name.removeprefix("snn/rate/") for name in rates["b"]] == ["input", "fc1", "fc2", "fc3"]


def test_only_finite_numbers_are_numbers(make_run):
    written = {"x/nan": math.nan, "x/text": "0.5", "x/flag": True, "x/number": 2}
    frame = load_runs([make_run("a", metrics=written), make_run("b")])
    found = {name: numbers(frame, name).to_list() for name in (*written, "x/absent")}
    assert found.pop("x/number") == pytest.approx([2.0, math.nan], nan_ok=True)
    assert all(math.isnan(value) for values in found.values() for value in values)


def test_null_and_a_missing_key_are_different(make_run):
    frame = load_runs([make_run("a", config={"budget_min": None}), make_run("b", config={"extra": 1})])
    assert frame.at["a", "cfg.budget_min"] is None
    assert math.isnan(frame.at["a", "cfg.extra"])


def test_settings_of_earlier_versions_have_their_present_names():
    old = {
        "model": {"_target_": "respike.networks.mlp.MLP"},
        "convert": {"_target_": "respike.convert.normalize.data_norm"},
        "simulate": {"_target_": "respike.simulate.clock.simulate", "threshold": 0.5, "strict": True, "dt": 0.001},
    }
    new = {
        "model": {"_target_": "respike.networks.mlp.MLP"},
        "convert": {"_target_": "respike.convert.rate.normalize.data_norm"},
        "neuron": {"_target_": "respike.neurons.integrate_fire.IntegrateFire", "threshold": 0.5, "fire_above": True},
        "simulate": {"_target_": "respike.simulate.rate.layerwise.simulate", "dt": 0.001},
    }
    assert flat_settings(old) == flat_settings(new)


def test_a_run_without_a_curve_has_an_empty_one(make_run):
    path = make_run("a")
    (path / "curves.csv").unlink()
    assert load_runs([path])["curve"]["a"].empty


def test_an_empty_cell_is_not_a_number(make_run):
    path = make_run("a")
    (path / "curves.csv").write_text("step,time_ms,acc,agreement,spikes_per_image\n1,,0.5,,3\n")
    curve = load_runs([path])["curve"]["a"]
    assert list(curve["acc"]) == [0.5] and math.isnan(curve["time_ms"][0])


BREAKAGES = {
    "missing metrics": lambda path: (path / "metrics.json").unlink(),
    "half-written metrics": lambda path: (path / "metrics.json").write_text('{"data": "MNI'),
    "metrics that are a list": lambda path: (path / "metrics.json").write_text("[]"),
    "metrics that do not say whether reduced": lambda path: (path / "metrics.json").write_text(
        json.dumps({"data": "MNIST", "test_images": 10000})
    ),
    "missing config": lambda path: (path / "config.yaml").unlink(),
    "broken config": lambda path: (path / "config.yaml").write_text("a: [1"),
    "metrics of other types": lambda path: (path / "metrics.json").write_text(
        json.dumps({"data": ["MNIST"], "reduced": "", "test_images": 10000})
    ),
    "metrics that are no text": lambda path: (path / "metrics.json").write_bytes(b"\xff\xfe\x00"),
    "a config that runs code": lambda path: (path / "config.yaml").write_text("a: !!python/object/apply:os.getcwd []"),
    "config that is a list": lambda path: (path / "config.yaml").write_text("- a"),
    "missing provenance": lambda path: (path / "provenance.json").unlink(),
    "a word in the curve": lambda path: (path / "curves.csv").write_text("step,acc\n1,high\n"),
    "a curve without accuracy": lambda path: (path / "curves.csv").write_text("step\n1\n"),
    "a curve with a line too long": lambda path: (path / "curves.csv").write_text("step,acc\n1,0.5\n2,0.5,1,2\n"),
    "a curve that is no text": lambda path: (path / "curves.csv").write_bytes(bytes(range(256)) * 9),
    "an empty curve": lambda path: (path / "curves.csv").write_text(""),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_broken_runs_are_refused_in_one_line_that_names_the_file(make_run, breakage):
    path = make_run("a")
    BREAKAGES[breakage](path)
    with pytest.raises(InputError) as caught:
        read_run(path)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_broken_run_costs_its_row_and_no_other(make_run, breakage):
    good, path = make_run("b"), make_run("a")
    BREAKAGES[breakage](path)
    frame = load_runs([good.parent])
    assert frame["failure"]["b"] == "" and len(frame) == 2
    failure = frame["failure"].drop("b").iloc[0]
    assert "\n" not in failure and (str(path) in failure or failure == "unfinished, no metrics.json")


def test_a_foreign_config_is_read_as_it_is_written(make_run, monkeypatch):
    monkeypatch.setenv("SECRET", "of this machine")
    run = read_run(make_run("a", config={"note": "${oc.env:SECRET}", "other": "${nowhere}"}))
    assert run["cfg.note"] == "${oc.env:SECRET}" and run["cfg.other"] == "${nowhere}"


def test_a_metric_has_no_name_of_a_column(make_run):
    path = make_run("a", metrics={"path": "/elsewhere", "failure": "x"})
    run = load_runs([path]).loc["a"]
    assert (run["path"], run["failure"]) == (path, "")


def test_a_missing_directory_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such"):
        load_runs([tmp_path / "nowhere"])


def test_a_failure_that_cannot_be_read_is_refused(make_failure_file):
    with pytest.raises(InputError, match="expected a list"):
        load_runs([make_failure_file('{"overrides": "a=1"}')])


@pytest.fixture
def make_failure_file(tmp_path):
    """make_failure_file(text) -> the folder of a job with this failure.json."""

    def make(text):
        (tmp_path / "jobs/1").mkdir(parents=True)
        (tmp_path / "jobs/1/config.yaml").write_text("a: 1")
        (tmp_path / "jobs/1/failure.json").write_text(text)
        return tmp_path / "jobs"

    return make


def test_runs_are_found_at_any_depth_sorted_by_name_and_unfinished_ones_last(make_run, tmp_path):
    for name in ("sweep/1/b", "a", "c"):
        make_run(name)
    (make_run("half") / "metrics.json").unlink()
    hydra = tmp_path / "runs/a/.hydra"
    hydra.mkdir()
    (hydra / "config.yaml").write_text("name: the copy that Hydra keeps")
    frame = load_runs([tmp_path / "runs", tmp_path / "runs/a"])
    assert list(frame["name"]) == ["a", "b", "c", "runs/half"]
    assert list(frame["failure"]) == ["", "", "", "unfinished, no metrics.json"]


def test_a_hidden_parent_hides_nothing(make_run, tmp_path):
    make_run("../.hidden/a")
    assert list(load_runs([tmp_path / ".hidden"])["name"]) == ["a"]


def test_runs_of_one_name_have_different_labels(make_run):
    paths = [make_run(path, config={"name": "a"}) for path in ("x/1", "x/2", "y/2", "b")]
    assert list(load_runs(paths).index) == ["a (1)", "a (x/2)", "a (y/2)", "a (b)"]


def test_skipped_rows_come_last_and_change_no_other(make_run):
    frame = load_runs([make_run("a", config={"budget_min": None})])
    both = with_skipped(frame, {"resnet19": "needs a GPU"})
    assert list(both.index) == ["a", "resnet19"] and both.at["resnet19", "failure"] == "needs a GPU"
    assert both.at["a", "cfg.budget_min"] is None and both.at["a", "snn/steps_to_1pct"] == 9
