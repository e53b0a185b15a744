"""Rows of a preset: which of them run with several seeds, in which folders, and what is said about them."""

import errno
import fcntl
import logging
import re
from pathlib import Path

import pytest
from filelock import FileLock, Timeout
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import OmegaConf

from respike import reproduce
from respike.errors import InputError
from respike.report import load_runs
from respike.runs.preset import _Row, choose_rows, load_preset, remove_run, row_config, run_rows
from respike.train import train

SMALL = (
    "+data.dataset.download=false", "data.train_size=500", "data.test_size=40", "data.batch_size=20", "trainer.max_epochs=1",
    "model.sizes=[784,20,10]", "callbacks.figures=null", "logger=none",
)  # fmt: skip


def preset_of(tmp_path, rows):
    """A preset of these rows, {name: overrides}, whose runs train in a second, and whose data is the package's subset."""
    places = [f"paths.outputs={tmp_path}", f"paths.data={tmp_path / 'none'}"]
    rows = [{"name": name, "overrides": list(overrides)} for name, overrides in rows.items()]
    return OmegaConf.create({"common": [*SMALL, *places], "rows": rows})


def test_a_short_training_runs_with_several_seeds_and_finished_ones_are_kept(tmp_path, capsys):
    preset = preset_of(tmp_path, {"fc": ["experiment=diehl_fc"], "third": ["experiment=diehl_fc", "seed=3"]})
    runs, skipped, failed = run_rows(train, preset, tmp_path / "few", [], seeds=2)
    assert [run.name for run in runs] == ["fc", "fc-seed1", "third"] and not skipped and not failed
    frame = load_runs(runs)
    assert list(frame["cfg.seed"]) == [0, 1, 3] and list(frame["name"]) == ["fc", "fc", "third"]
    assert list(frame["time/fit_was_cached"]) == [0, 0, 0] and set(frame["changed"]) == {""}
    assert len(set(frame["ann/test_loss"])) == 3
    printed = capsys.readouterr().out
    said = re.findall(
        r"^\[(\d)/2\] (\S+): ReLU \S+ %, spiking \S+ %, agreement \S+ %, [\d.]+ s(; about .* left)?$", printed, re.M
    )
    assert [line[:2] for line in said] == [("1", "fc"), ("1", "fc-seed1"), ("2", "third")]
    assert [bool(left) for _, _, left in said] == [True, True, False]
    assert "[2/2] third: one seed, which the row names" in printed

    def never(cfg, overrides):
        raise AssertionError(f"{cfg.name} is finished")

    again = run_rows(never, preset, tmp_path / "few", [], seeds=2)
    assert again == (runs, {}, False)
    assert capsys.readouterr().out.count(": kept, ReLU ") == 3


def test_a_short_form_runs_until_the_whole_run_is_asked_for_which_is_then_kept(tmp_path, capsys):
    row = {
        "name": "digits",
        "overrides": ["experiment=digits_cnn", "data.test_size=20", "data.train_size=100", "trainer.max_epochs=1"],
    }
    common = ["logger=none", "simulate.duration=0.01", "callbacks.figures=null", f"paths.outputs={tmp_path}"]
    short = {"overrides": [*row["overrides"][:1], "data.test_size=10", *row["overrides"][2:]], "budget_min": 1}
    preset = OmegaConf.create({"common": common, "rows": [row | {"short": short}]})

    def images(long):
        (run,), _, _ = run_rows(train, preset, tmp_path / "few", [], long=long)
        return OmegaConf.load(run / "config.yaml").data.test_size

    assert [images(False), images(True), images(False)] == [10, 20, 20]
    printed = capsys.readouterr().out
    assert (
        "digits  1 min; in full, 3 min, with --long (make: ARGS=--long)" in printed
        and printed.count("digits  kept") == 1
    )


def test_the_measured_training_decides_not_the_budget(tmp_path, capsys):
    """Training takes more than five minutes by the budget; the run itself takes a second."""
    preset = preset_of(tmp_path, {"fc": ["experiment=diehl_fc", "budget_min=60"]})
    assert _Row(preset, preset.rows[0], [], tmp_path, False).count(5) == 1
    runs, _, _ = run_rows(train, preset, tmp_path / "few", [], seeds=2)
    assert len(runs) == 2


def test_a_run_is_removed_and_nothing_else(tmp_path):
    for name in ("fc", "fc-seed1", "linked"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").touch()
    (tmp_path / "notes").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "linked")
    for name in ("fc", "notes", "link", "absent"):
        remove_run(tmp_path / name)
    assert {path.name for path in tmp_path.iterdir()} == {"fc-seed1", "linked", "notes", "link"}


def test_fresh_removes_each_run_right_before_it_is_run_again_and_no_other_seed(tmp_path, capsys):
    preset, folder = preset_of(tmp_path, {name: ["experiment=diehl_fc"] for name in ("fc", "second")}), tmp_path / "few"
    runs, seen = [folder / name for name in ("fc", "fc-seed1", "fc-seed2", "second")], []
    for run in runs:
        run.mkdir(parents=True)
        (run / "config.yaml").touch()

    def interrupted(cfg, overrides):
        seen.append([run.name for run in runs if not run.exists()])
        if cfg.name == "second":
            raise KeyboardInterrupt
        train(cfg, overrides)

    with pytest.raises(KeyboardInterrupt):
        run_rows(interrupted, preset, folder, [], seeds=2, fresh=True)
    assert seen == [["fc"], ["fc-seed1"], ["second"]]
    assert re.findall(r"^  (\w+) +(\d+ min)", capsys.readouterr().out, re.M) == [("fc", "10 min"), ("second", "10 min")]
    assert [run.name for run in runs if not run.exists()] == ["second"]


def test_one_process_at_a_time_does_a_row(tmp_path, caplog):
    """A second one waits, says so, and keeps what the first has done."""
    preset, folder = preset_of(tmp_path, {"fc": ["experiment=diehl_fc"]}), tmp_path / "few"
    lock = folder / ".fc.lock"

    def is_locked(cfg, overrides):
        with pytest.raises(Timeout):
            FileLock(lock).acquire(timeout=0)
        train(cfg, overrides)

    (run,), _, failed = run_rows(is_locked, preset, folder, [])
    assert not failed
    metrics = (run / "metrics.json").read_text()
    (run / "metrics.json").unlink()  # another process has just begun the run

    class Other(logging.Handler):
        def emit(self, record):
            (run / "metrics.json").write_text(metrics)
            fcntl.flock(held, fcntl.LOCK_UN)

    def never(cfg, overrides):
        raise AssertionError("the other process has done it")

    other, log = Other(), logging.getLogger("respike.system.cache")
    log.addHandler(other)
    with caplog.at_level(logging.INFO), open(lock, "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        try:
            assert run_rows(never, preset, folder, []) == ([run], {}, False)
        finally:
            log.removeHandler(other)
    assert f"waiting for another process that runs the same job ({lock})" in caplog.text


def test_a_row_that_another_process_ran_in_full_meanwhile_keeps_that_run(tmp_path):
    """The row is planned in its short form; while the row before it runs, another process does it in full, with one seed."""
    preset = preset_of(tmp_path, {"first": ["experiment=diehl_fc"], "fc": ["experiment=diehl_fc"]})
    preset.rows[1].short = {"overrides": ["experiment=diehl_fc", "data.test_size=10"]}

    def beside_another(cfg, overrides):
        train(cfg, overrides)
        if Path(cfg.paths.run).name == "first":
            train(row_config(preset, preset.rows[1], [], Path(cfg.paths.run).with_name("fc")), overrides)
        else:
            begun.append(Path(cfg.paths.run).name)

    for fresh in (False, True):
        begun: list[str] = []
        runs, _, failed = run_rows(beside_another, preset, tmp_path / str(fresh), [], seeds=2, fresh=fresh)
        assert not failed and [run.name for run in runs] == ["first", "first-seed1", "fc", "fc-seed1"]
        assert begun == ["first-seed1", "fc-seed1"]
        assert [OmegaConf.load(run / "config.yaml").data.test_size for run in runs[2:]] == [40, 40]


def test_fresh_runs_again_what_is_run_and_keeps_the_rest(tmp_path):
    """A row whose overrides are wrong, one without its data, and one that only --long would run, keep their results."""
    preset = preset_of(tmp_path, {name: ["experiment=diehl_fc"] for name in ("fc", "wrong", "absent", "whole", "left")})
    folder = tmp_path / "few"
    preset.rows[3].short = {"overrides": ["experiment=diehl_fc"], "budget_min": 1}
    preset.rows[4].long = True
    runs, _, _ = run_rows(train, preset, folder, [], long=True)
    preset.rows[1].overrides.append("simulate.durration=1")
    preset.rows[2].needs, preset.paths = {"a file": ["file"]}, {"data": str(tmp_path)}
    before = {run.name: (run / "metrics.json").stat().st_mtime_ns for run in runs}
    runs, skipped, failed = run_rows(train, preset, folder, [], fresh=True)
    after = {name: (folder / name / "metrics.json").stat().st_mtime_ns for name in before}
    assert [name for name in before if after[name] != before[name]] == ["fc"]
    assert [run.name for run in runs] == ["fc", "whole", "left"] and set(skipped) == {"wrong", "absent"} and failed
    run_rows(train, preset, folder, [], fresh=True, long=True)
    last = {name: (folder / name / "metrics.json").stat().st_mtime_ns for name in before}
    assert [name for name in before if last[name] != after[name]] == ["fc", "whole", "left"]


def test_a_row_whose_files_cannot_be_read_fails_and_the_others_run(tmp_path, monkeypatch):
    preset = preset_of(tmp_path, {"broken": ["experiment=diehl_fc"], "fc": ["experiment=diehl_fc"]})

    def finished(cfg, folder):
        if folder.name == "broken":
            raise InputError("a file is damaged")
        return False

    monkeypatch.setattr("respike.runs.preset.finished", finished)
    for long in (False, True):
        runs, skipped, failed = run_rows(train, preset, tmp_path / "few", [], long=long)
        assert [run.name for run in runs] == ["fc"] and skipped == {"broken": "a file is damaged"} and failed


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError(errno.ENOSPC, "No space left on device", "file"), "file: No space left on device"),
        (OSError(errno.EIO, "Input/output error"), None),
        (ZeroDivisionError(), None),
    ],
)
def test_what_the_file_system_refuses_is_a_line_and_a_bug_a_traceback(tmp_path, capsys, error, line):
    preset = preset_of(tmp_path, {"fc": ["experiment=diehl_fc"]})

    def fails(cfg, overrides):
        raise error

    _, skipped, failed = run_rows(fails, preset, tmp_path / "few", [])
    assert failed and skipped == {"fc": line or f"stopped by {type(error).__name__}, see the traceback above"}
    assert ("Traceback" in capsys.readouterr().err) == (line is None)


def test_a_row_without_its_data_is_skipped_and_says_what_it_needs(tmp_path):
    preset = load_preset("paper", [f"paths.data={tmp_path}"])
    row = next(row for row in preset.rows if row.name == "exact_resnet20_cifar10")
    reasons = []
    for place in ("CIFAR10", "pretrained/resnet20-12fca82f.th"):
        reasons.append(_Row(preset, row, [], tmp_path, False).reason)
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).touch()
    assert reasons[0] == "missing in the data folder: cifar-10-batches-py, or image files in CIFAR10"
    assert reasons[1].startswith("missing in the data folder: pretrained/resnet20-12fca82f.th, of akamaster/")
    assert _Row(preset, row, [], tmp_path, False).reason == ""


def test_which_rows_run_with_several_seeds(tmp_path):
    preset = load_preset("paper")
    preset.paths.data = str(tmp_path)
    rows = {}
    for row in preset.rows:
        if row.name in (
            "diehl_cnn", "diehl_fc", "diehl_cnn_published", "stbp_resnet19", "diehl_cnn_authors_seed3", "ttfs_plain_fc_levels",
        ):  # fmt: skip
            row.pop("needs", None)  # the file is not read here
            rows[row.name] = _Row(preset, row, [], tmp_path, True)
    assert rows["diehl_cnn"].once() == rows["diehl_cnn_published"].once() == ""  # random input spikes
    assert rows["diehl_fc"].minutes == 5 and rows["diehl_fc"].once() == ""  # the longest that counts as short
    assert rows["ttfs_plain_fc_levels"].once() == ""  # start=exact_fc trains that network with the row's seed
    assert "training takes" in rows["stbp_resnet19"].once()
    assert "row names" in rows["diehl_cnn_authors_seed3"].once()
    given = _Row(preset, rows["ttfs_plain_fc_levels"].row, ["ckpt_path=w.pt"], tmp_path, True)
    assert "random" in given.once()
    exact = {"name": "exact", "overrides": ["experiment=exact_fc", "train=false"]}
    assert "random" in _Row(preset, OmegaConf.create(exact), [], tmp_path, True).once()
    assert _Row(preset, OmegaConf.create(exact), ["simulate.time_noise=0.1"], tmp_path, True).once() == ""
    current = {"name": "x", "overrides": ["experiment=diehl_fc", "train=false", "encode=current"]}
    assert "random" in _Row(preset, OmegaConf.create(current), [], tmp_path, True).once()


def test_some_rows_are_chosen_and_an_unknown_one_is_refused_with_those_there_are():
    preset = load_preset("quick")
    choose_rows(preset, "exact_fc, digits_cnn")
    assert [row.name for row in preset.rows] == ["digits_cnn", "exact_fc"]
    with pytest.raises(InputError, match="no row fc; choose from digits_cnn, exact_fc"):
        choose_rows(preset, "fc")


def test_the_command_takes_the_rows(capsys):
    for only in ("nope", ","):
        assert reproduce.main(["quick", f"--only={only}"]) == 1
        said = capsys.readouterr().err
        assert f"--only={only}: " in said and "no row" in said and "; choose from digits_cnn" in said


@pytest.mark.parametrize(
    ("typed", "advice"),
    [
        ("experiment=exact_fc", "leave it out"),
        ("~experiment", "leave it out"),
        ("name=mine", "leave it out"),
        ("paths.run=mine", "leave it out"),
        ("sweep=seeds", "type python -m respike.train sweep=seeds"),
        ("search=accuracy_at_latency", "leave it out"),
        ("neuron.threshold=1,2", "type neuron.threshold=VALUE"),
        ("encode.max_rate=interval(1,2)", "type encode.max_rate=VALUE"),
        ("seed=0,1", "type seed=VALUE, or --seeds=N (make: SEEDS=N) for N seeds"),
    ],
)
def test_what_a_row_decides_is_not_typed_and_it_takes_one_value(typed, advice, capsys):
    assert reproduce.main(["quick", "logger=csv", typed]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"respike: {typed}: ") and advice in said and said.count("\n") == 1


def test_seeds_follow_the_one_that_was_typed(tmp_path):
    preset = load_preset("quick")
    row = _Row(preset, preset.rows[0], ["seed=7"], tmp_path, False)
    name, cfg, place = row.run(1)
    assert (cfg.seed, place.name, name, cfg.name) == (8, "digits_cnn-seed8", "digits_cnn-seed8", "digits_cnn")


@pytest.mark.parametrize("given", ["abc", "0", "-1", "", "1.5"])
def test_a_number_of_seeds_is_one_line_if_it_is_none(capsys, given):
    assert reproduce.main(["quick", f"--seeds={given}"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"SEEDS={given}: a whole number from 1 up" in error


def test_overrides_may_follow_options_as_make_writes_them(capsys):
    assert reproduce.main(["nope", "--seeds=2", "logger=csv", "--long"]) == 1
    assert "preset nope: unknown" in capsys.readouterr().err


def test_a_file_elsewhere_in_conf_is_no_preset(capsys):
    assert reproduce.main(["../sweep/latency"]) == 1
    assert "preset ../sweep/latency: unknown, choose one of energy, paper, quick" in capsys.readouterr().err


@pytest.mark.parametrize("folder", ["sor tië", "a (b)", "a,b", "[a]", """it's "a" """ + "{b}=c"])
def test_the_folders_may_have_any_name(tmp_path, folder, monkeypatch):
    """Of the outputs as they are typed, and of the data, which a row of the preset names."""
    outputs = tmp_path / folder
    data = outputs / "data"
    monkeypatch.setenv("DATA_DIR", str(data))
    typed = ["paths.outputs=" + QuotedString(str(outputs), Quote.double).with_quotes()]
    preset = load_preset("paper", typed)
    row = next(row for row in preset.rows if row.name == "diehl_fc_published")
    cfg = row_config(preset, row, typed, Path(preset.paths.outputs, "paper", row.name))
    assert cfg.paths.run == str(outputs / "paper" / row.name) and cfg.paths.stages == str(outputs / "stages")
    assert cfg.model.path == str(data / "diehl2015" / "nn_98.84.mat")


def test_the_data_folder_may_be_below_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "dd" / "CIFAR10").mkdir(parents=True)
    preset = load_preset("paper", ['paths.data="~/dd"'])
    row = next(row for row in preset.rows if row.name == "exact_vgg_cifar10")
    assert _Row(preset, row, [], tmp_path, False).reason == ""


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, capsys):
    preset = preset_of(tmp_path, {"fc": ["experiment=diehl_fc"]})
    (tmp_path / "few").touch()
    _, skipped, failed = run_rows(train, preset, tmp_path / "few", [])
    assert skipped == {"fc": f"{tmp_path / 'few'}: File exists"} and failed
    assert "Traceback" not in capsys.readouterr().err


def test_a_kept_run_tells_how_long_its_training_takes(tmp_path, capsys):
    """By the budget one seed would be planned; the first run took a second."""
    preset = preset_of(tmp_path, {"fc": ["experiment=diehl_fc", "budget_min=6"]})
    assert _Row(preset, preset.rows[0], [], tmp_path / "few", False).left(3) == 1
    run_rows(train, preset, tmp_path / "few", [])
    for long in (False, True):
        assert _Row(preset, preset.rows[0], [], tmp_path / "few", long).plan(3) == "12 min"
