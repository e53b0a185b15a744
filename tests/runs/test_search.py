"""A search finds the optimum of a known function, goes on where it was stopped, and keeps what others do not beat."""

import csv
import json
import re
import sys
import threading
import time
from types import SimpleNamespace

import optuna
import pytest
from omegaconf import OmegaConf

from respike.errors import InputError
from respike.runs.search import Search, objective
from respike.train import main


class Launcher:
    """Jobs of x and y whose accuracy is best at x = 1 for y = b, and whose spikes grow with x."""

    def __init__(self, folder, stop_after=None, fail=(), nan=()):
        self.folder, self.jobs, self.stop_after, self.fail, self.nan = folder, [], stop_after, fail, nan

    def __call__(self, jobs, initial_job_idx):
        for number, job in enumerate(jobs, initial_job_idx):
            if self.stop_after == len(self.jobs):
                raise KeyboardInterrupt
            self.jobs.append(job)
            values = dict(override.split("=") for override in job)
            x, bonus = float(values["x"]), values["y"] == "b"
            metrics = {"snn/test_acc": 0.5 - (x - 1) ** 2 / 20 + 0.4 * bonus, "spikes": 100 * x}
            metrics |= {"snn/test_acc": float("nan")} if number in self.nan else {}
            config = OmegaConf.create({"hydra": {"runtime": {"output_dir": str(self.folder / str(number))}}})
            yield SimpleNamespace(hydra_cfg=config, return_value=None if number in self.fail else metrics)

    def list(self, jobs, initial_job_idx):
        return list(self(jobs, initial_job_idx))


SPACE = {"x": "interval(0.0,4.0)", "y": "choice(a,b)"}
BEST = {"snn/test_acc": "maximize"}


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_one_objective_is_brought_near_its_optimum(tmp_path):
    launcher = Launcher(tmp_path)
    study = Search(tmp_path, BEST, SPACE, n_trials=40, at_once=4).run(launcher.list, ["experiment=z"])
    assert study.best_params["y"] == "b" and abs(study.best_params["x"] - 1) < 0.3
    assert len(launcher.jobs) == 40 and all(job[0] == "experiment=z" for job in launcher.jobs)
    (best,) = rows(tmp_path / "front.csv")
    assert float(best["snn/test_acc"]) == study.best_value and len(rows(tmp_path / "trials.csv")) == 40


def test_a_study_that_was_stopped_runs_what_is_missing_and_repeats_the_job_that_was_cut(tmp_path):
    first, second = Launcher(tmp_path, stop_after=3), Launcher(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        Search(tmp_path, BEST, SPACE, n_trials=6).run(first.list, [])
    (cut,) = optuna.load_study(
        study_name="maximize snn/test_acc", storage=f"sqlite:///{tmp_path / 'study.db'}"
    ).get_trials(states=(optuna.trial.TrialState.RUNNING,))
    Search(tmp_path, BEST, SPACE, n_trials=6).run(second.list, [])
    assert len(first.jobs) == 3 and len(second.jobs) == 3
    assert second.jobs[0] == [f"{key}={value}" for key, value in cut.params.items()]
    Search(tmp_path, BEST, SPACE, n_trials=6).run(lambda *_, **__: pytest.fail("run again"), [])


def test_failed_trials_are_repeated_once_by_each_command_until_they_have_a_result(tmp_path):
    first, second, third = (
        Launcher(tmp_path, fail=(1, 3), nan=(2,)),
        Launcher(tmp_path, fail=range(99)),
        Launcher(tmp_path),
    )
    search = Search(tmp_path, BEST, SPACE, n_trials=5)
    search.run(first.list, [])
    search.run(second.list, [])
    assert len(first.jobs) == 5 and second.jobs == [first.jobs[number] for number in (1, 2, 3)]
    search.run(third.list, [])
    assert third.jobs == second.jobs and len(rows(tmp_path / "trials.csv")) == 5
    search.run(lambda *_, **__: pytest.fail("run again"), [])


def test_a_study_that_has_failed_altogether_can_be_run_again(tmp_path):
    search, launcher = Search(tmp_path, BEST, SPACE, n_trials=3), Launcher(tmp_path)
    with pytest.raises(InputError, match="every trial failed"):
        search.run(Launcher(tmp_path, fail=range(3)).list, [])
    search.run(launcher.list, [])
    assert len(launcher.jobs) == len(rows(tmp_path / "trials.csv")) == 3


def test_a_study_without_a_result_is_begun_anew_with_other_settings(tmp_path):
    launcher = Launcher(tmp_path)
    with pytest.raises(InputError, match="every trial failed"):
        Search(tmp_path, BEST, SPACE | {"y": "choice(a,c)"}, n_trials=3).run(Launcher(tmp_path, fail=range(3)).list, [])
    Search(tmp_path, BEST, SPACE, n_trials=3).run(launcher.list, ["seed=1"])
    assert len(launcher.jobs) == len(rows(tmp_path / "trials.csv")) == 3


def test_the_front_of_two_objectives_holds_the_trials_no_other_beats_in_both(tmp_path):
    two = {"snn/test_acc": "maximize", "spikes": "minimize"}
    Search(tmp_path, two, SPACE, n_trials=20).run(Launcher(tmp_path, fail=(2, 5)).list, [])
    every, front = (
        {(float(row["snn/test_acc"]), float(row["spikes"])) for row in rows(tmp_path / f"{name}.csv")}
        for name in ("trials", "front")
    )
    assert len(every) == 18  # a failed trial counts, but has no values
    beaten = {(a, s) for a, s in every for b, t in every if b >= a and t <= s and (b, t) != (a, s)}
    assert front == every - beaten
    assert (tmp_path / "front.png").stat().st_size > 10_000


def test_the_command_line_replaces_what_is_searched(tmp_path):
    launcher = Launcher(tmp_path)
    Search(tmp_path, BEST, SPACE, n_trials=5).run(launcher.list, ["y=a", "x=range(1,3)"])
    assert all(job[0] == "y=a" and job[1] in ("x=1", "x=2") for job in launcher.jobs)


def test_a_group_that_is_typed_for_a_package_replaces_no_other(tmp_path):
    def launch(jobs, initial_job_idx):
        assert all({job.partition("=")[0] for job in one} == {"convert", "convert@convert.norm"} for one in jobs)
        return Launcher(tmp_path).list([["x=1", "y=a"]], initial_job_idx)

    params = {"convert": "choice(calibrate_bias,calibrate_weights)"}
    Search(tmp_path, BEST, params, n_trials=1).run(launch, ["convert@convert.norm=mmse"])


def test_accuracy_at_a_latency_is_that_of_the_last_step_by_then(tmp_path):
    (tmp_path / "curves.csv").write_text("step,time_ms,acc\n1,0.5,0.1\n2,1.0,0.4\n3,1.5,0.6\n")
    metrics = {"snn/test_acc": 0.6, "data": "MNIST"}
    found = [objective(metrics, tmp_path, f"acc_at_{time}ms") for time in ("0.5", "1", "1.4", "1.5")]
    assert found == [0.1, 0.4, 0.4, 0.6]
    for name, words in (
        ("acc_at_2ms", "0.5 to 1.5 ms"),
        ("acc_at_0.1ms", "0.5 to 1.5 ms"),
        ("nope", "snn/test_acc"),
        ("data", "is 'MNIST', no number"),
    ):
        with pytest.raises(InputError, match=words):
            objective(metrics, tmp_path, name)
    for curve in ("step,time_ms,acc\n1,,0.1\n", "step,acc\n1,0.1\n", None):  # of direct training; of spike times
        (tmp_path / "curves.csv").unlink()
        if curve:
            (tmp_path / "curves.csv").write_text(curve)
        with pytest.raises(InputError, match="only a rate-coded run"):
            objective(metrics, tmp_path, "acc_at_1ms")
        (tmp_path / "curves.csv").touch()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"objectives": {}}, "objectives"),
        ({"objectives": {"a": "larger"}}, "maximize or minimize"),
        ({"n_trials": 0}, "n_trials=0"),
        ({"at_once": 0}, "at_once=0"),
        ({"params": {}}, "something to vary"),
    ],
)
def test_settings_that_cannot_be_searched_are_refused(tmp_path, settings, words):
    given = {"objectives": BEST, "params": SPACE, "n_trials": 2} | settings
    with pytest.raises(InputError, match=words):
        Search(tmp_path, **given).run(Launcher(tmp_path).list, [])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ("interval(4,0.25)", "from 4 to 0.25; the lower end comes first, as in x='interval"),
        ("tag(log,interval(0,4))", "from 0 to 4; the lower end comes first and is above 0, as in x='interval"),
        ("glob(*)", "a search takes a list, "),
        ("range(5,1)", "no value is in this range; the start comes first, as in x='range(1,5)'"),
    ],
)
def test_values_that_cannot_be_sampled_are_a_line(tmp_path, values, words):
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        Search(tmp_path, BEST, {}, n_trials=1).run(Launcher(tmp_path).list, [f"x={values}"])
    assert str(caught.value).startswith(f"x={values}: ")


def test_two_processes_do_not_run_one_study_at_once(tmp_path):
    """A second search starts while the first one's job runs: it waits, and finds nothing left to do."""
    first, second, others = Launcher(tmp_path), Launcher(tmp_path), []

    def launch(jobs, initial_job_idx):
        others.append(threading.Thread(target=Search(tmp_path, BEST, SPACE, n_trials=2).run, args=(second.list, [])))
        others[-1].start()
        time.sleep(0.3)
        return first.list(jobs, initial_job_idx)

    study = Search(tmp_path, BEST, SPACE, n_trials=2).run(launch, [])
    for other in others:
        other.join()
    assert len(first.jobs) == 2 and not second.jobs
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE"]


def test_a_study_of_other_settings_in_the_same_folder_is_refused(tmp_path):
    Search(tmp_path, BEST, SPACE, n_trials=1).run(Launcher(tmp_path).list, [])
    with pytest.raises(InputError, match="sweep_name=another"):
        Search(tmp_path, BEST, SPACE | {"y": "choice(b,c)"}, n_trials=2).run(Launcher(tmp_path).list, [])


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["data.test_size=9"], "(data.test_size=100 in place of data.test_size=9)"),
        (["data.test_size=100", "convert=mmse"], "(nothing in place of convert=mmse)"),
        (["data.test_size=100", "x=interval(0,1)"], "(x=interval(0.0,4.0) in place of x=interval(0,1))"),
        (["data.test_size=100", "logger=none", "+logger.tags=[a]", "threads=1", "paths.outputs=b"], ""),
    ],
)
def test_the_results_of_a_study_are_not_given_for_other_settings(tmp_path, typed, said):
    Search(tmp_path, BEST, SPACE, n_trials=1).run(Launcher(tmp_path).list, ["data.test_size=100", "paths.outputs=a"])
    search = Search(tmp_path, BEST, SPACE, n_trials=1)
    if not said:
        search.run(lambda *_, **__: pytest.fail("run again"), typed)
        return
    with pytest.raises(InputError, match=re.escape(f"{said}; type another name, as in sweep_name=another")):
        search.run(Launcher(tmp_path).list, typed)


@pytest.mark.parametrize("search", ["accuracy_at_latency", "accuracy_and_spikes"])
def test_a_named_search_runs_real_jobs(tmp_path, monkeypatch, search):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "none"))
    small = ["+data.dataset.download=false", "data.train_size=200", "data.test_size=40", "logger=none"]
    net = ["experiment=diehl_fc", "model.sizes=[784,30,10]", "trainer.max_epochs=1", "simulate.duration=0.02"]
    monkeypatch.setattr(sys, "argv", ["respike.train", f"search={search}", *net, *small, "hydra.sweeper.n_trials=2"])
    main()
    folder = tmp_path / "outputs" / "sweeps" / "diehl_fc" / search
    for row in rows(folder / "trials.csv"):
        metrics = json.loads((tmp_path / row["folder"] / "metrics.json").read_text())
        if search == "accuracy_and_spikes":
            assert float(row["snn/spikes_per_image"]) == metrics["snn/spikes_per_image"]
    assert len(rows(folder / "trials.csv")) == 2


def test_a_search_that_fails_lists_its_failed_jobs_and_leaves_no_records(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["respike.train", "search=accuracy_at_latency", "experiment=diehl_fc", "logger=none",
                                      "neuron.threshold=-1", "hydra.sweeper.n_trials=2"])  # fmt: skip
    with pytest.raises(SystemExit):
        main()
    printed, error = capsys.readouterr()
    assert "outputs/sweeps/diehl_fc/accuracy_at_latency: 0 finished, 2 failed" in printed
    assert printed.count("    neuron.threshold=-1: a number above 0") == 2
    assert error.endswith("every trial failed; failure.json in each trial's folder has the reason\n")
    assert not list(tmp_path.rglob(".multirun-*"))
