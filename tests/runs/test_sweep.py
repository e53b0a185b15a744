"""Multiruns on real images: one training, finished jobs kept, failures told."""

import json
import math
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from respike.report.columns import duration
from respike.runs.compose import CONF, compose_run
from respike.runs.sweep import SweepReport, run_job, seconds_left
from respike.train import main

SMALL = (
    "experiment=diehl_fc",
    "+data.dataset.download=false",
    "data.train_size=500",
    "data.test_size=40",
    "trainer.max_epochs=1",
    "model.sizes=[784,100,100,10]",
    "callbacks.figures=null",
    "logger=none",
)


@pytest.fixture
def sweep(tmp_path, monkeypatch, capfd):
    """sweep(override, ...) -> `respike.train -m` in tmp_path, in this process: its status, and all it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "none"))
    monkeypatch.setenv("COLUMNS", "80")

    def run(*overrides):
        monkeypatch.setattr(sys, "argv", ["respike.train", "-m", *SMALL, *overrides])
        capfd.readouterr()
        try:
            main()
            status = 0
        except SystemExit as ended:
            status = ended.code
        return status, "".join(capfd.readouterr())

    return run


def finished_jobs(folder):
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.rglob("metrics.json")}


def test_a_sweep_trains_once_keeps_what_is_finished_and_tells_what_failed(tmp_path, sweep, monkeypatch):
    grid = ("neuron.threshold=-1,0.5,1", "encode.max_rate=500,1000")
    with monkeypatch.context() as patch:  # a clock that runs backwards
        now, start = time.time, time.time()
        patch.setattr(time, "time", lambda: 2 * start - now())
        status, printed = sweep(*grid)
    assert status == 1
    assert "4 finished, 2 failed" in printed
    assert printed.count("neuron.threshold=-1: a number above 0") == 4  # as each job ends, and at the end
    first = finished_jobs(tmp_path)
    folders = [path.parent for path in (tmp_path / "outputs/sweeps/diehl_fc/grid").rglob("metrics.json")]
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in folders]
    assert sorted(m["time/fit_was_cached"] for m in metrics) == [0, 1, 1, 1]
    assert len({m["ann/test_acc"] for m in metrics}) == 1
    assert len({m["snn/spikes_per_image"] for m in metrics}) == 4

    lost = folders[0]
    (lost / "metrics.json").unlink()  # as if it had been killed before its end
    status, printed = sweep("neuron.threshold=0.5,1,2", grid[1])
    assert status == 0 and "6 finished (3 kept), 0 failed" in printed  # without earlier failures
    again = finished_jobs(tmp_path)
    assert {name for name in first if again[name] == first[name]} == set(first) - {lost.name}
    assert json.loads((lost / "metrics.json").read_text())["snn/test_acc"] == metrics[0]["snn/test_acc"]
    said = re.findall(
        r"^\[(\d)/6\] neuron.threshold=\S+,encode.max_rate=\d+: (kept, )?ReLU .* %, spiking .* %", printed, re.M
    )
    assert [number for number, _ in said] == list("123456") and sum(bool(kept) for _, kept in said) == 3
    assert re.search(r"^\[5/6\] .*; about .* left$", printed, re.M)
    lines = printed[printed.index("\n\n") :].splitlines()
    assert sum(line.split()[:2] in (["500", "2"], ["1000", "0.5"]) for line in lines) == 2  # the table of the jobs
    assert not list(tmp_path.rglob(".multirun-*"))


def test_jobs_of_different_weights_have_folders_of_their_own(tmp_path, sweep):
    assert sweep("seed=0,1", "keep_networks=true")[0] == 0
    weights = [path.rename(tmp_path / f"{number}.pt") for number, path in enumerate(tmp_path.rglob("ann.pt"))]
    status, printed = sweep("train=false", f"ckpt_path={weights[0]},{weights[1]}", "sweep_name=given")
    assert status == 0 and "2 finished, 0 failed" in printed
    found = [
        json.loads(path.read_text())["ann/test_loss"]
        for path in (tmp_path / "outputs").glob("*/*/given/*/metrics.json")
    ]
    assert len(weights) == len(set(found)) == 2


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["seed=0,1", "paths.run=mine"], "paths.run: every job has a folder of its own; type paths.outputs=FOLDER"),
        (["threads=1,2"], "threads: several values would share a folder; type one value in each command"),
        (["experiment=diehl_fc,diehl_cnn", "name=mine"], "name: the jobs of several experiments would share a folder"),
        (
            ["experiment=diehl_fc,diehl_cnn", "hydra.sweep.dir=mine"],
            "hydra.sweep.dir=mine: the jobs of several experiments would share a folder; type paths.outputs=FOLDER",
        ),
        (
            ["seed=0,1", "hydra.sweep.subdir=x"],
            "hydra.sweep.subdir=x: the jobs would share a folder; type hydra.sweep.dir=",
        ),
    ],
)
def test_jobs_that_would_share_a_folder_are_refused(tmp_path, sweep, typed, words):
    status, printed = sweep(*typed)
    assert status == 1 and words in printed and not list(tmp_path.rglob("metrics.json"))


def test_a_job_does_not_run_in_the_folder_of_another_one(tmp_path, sweep):
    grid = ("neuron.threshold=0.5,1,1", "hydra.sweep.subdir=${data.test_size}", "simulate.duration=0.01")
    status, printed = sweep(*grid)
    reason = (
        "shares the folder outputs/sweeps/diehl_fc/grid/40 with neuron.threshold=0.5; type another name= or sweep_name="
    )
    assert status == 1 and "1 finished, 2 failed" in printed and printed.count(reason) == 4
    (run,) = tmp_path.rglob("metrics.json")
    assert "threshold: 0.5" in (run.parent / "config.yaml").read_text() and not (run.parent / "failure.json").exists()
    assert not list(tmp_path.rglob(".multirun-*"))
    status, printed = sweep("neuron.threshold=0.5,0.5", *grid[1:])  # the same job twice
    assert status == 0 and "2 finished (2 kept), 0 failed" in printed


def test_what_a_sweep_varies_is_checked_before_its_first_job(tmp_path, sweep):
    for typed, words in (
        (["neuron.threshold=interval(0.5,1)"], "neuron.threshold=interval(0.5,1): an interval is for a search"),
        (["sweep=latency", "simulate.duration=interval(0.01,0.02)"], "an interval is for a search"),
        (["seed=range(0)"], "seed=range(0): there is no such value; type the values, as in seed=A,B"),
        (["convert=glob(zz*)"], "convert=glob(zz*): there is no such value"),
        (["sweep=latency", "convert=glob(zz*)"], "convert=glob(zz*): there is no such value"),
        (
            ["sweep=seeds", "search=accuracy_at_latency"],
            "sweep=seeds search=accuracy_at_latency: a grid or a search; leave one",
        ),
        (["hydra/sweeper=grids", "seed=0,1"], "hydra/sweeper=grids: there are no grids; type a sweep that has some"),
        (
            ["search=accuracy_at_latency", "+hydra.sweeper.n_jobs=2"],
            "hydra.sweeper.n_jobs=2: hydra/sweeper=optuna has no setting n_jobs; type hydra.sweeper.NAME=VALUE with one of",
        ),
    ):
        status, printed = sweep(*typed)
        assert status == 1 and words in printed and printed.count("\n") == 1, printed
    assert not list(tmp_path.rglob("metrics.json"))


def test_a_sweep_that_is_interrupted_leaves_no_records(tmp_path):
    typed = ["respike.train", "-m", *SMALL, "neuron.threshold=-1,-2"]  # its jobs fail at once
    code = f"""import sys, respike.train, respike.runs.sweep
def interrupt(*_): raise KeyboardInterrupt
respike.runs.sweep.time_left = interrupt  # after the record of the first job
sys.argv = {typed}
respike.train.main()"""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "KeyboardInterrupt" in done.stderr and len(list(tmp_path.rglob("failure.json"))) == 1
    assert not list(tmp_path.rglob(".multirun-*"))


def test_a_sweep_over_experiments_ends_with_the_folder_of_all_of_them(tmp_path, sweep):
    status, printed = sweep("experiment=diehl_fc,diehl_fc_raw", "sweep_name=two")
    assert (
        status == 0
        and "\noutputs/sweeps: 2 finished" in printed
        and "\ncompare them: python -m respike.report outputs/sweeps --compare --out outputs/comparison\n" in printed
    )
    assert {path.parents[2].name for path in tmp_path.rglob("metrics.json")} == {"diehl_fc", "diehl_fc_raw"}


@pytest.mark.parametrize(
    ("launcher", "at_once"),
    [("basic", 1), ("joblib hydra.launcher.n_jobs=3", 3), ("submitit_slurm hydra.launcher.array_parallelism=5", 5)],
)
def test_the_jobs_at_once_are_those_of_the_launcher(launcher, at_once):
    typed = ["experiment=diehl_fc", "sweep=seeds", *f"hydra/launcher={launcher}".split()]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=typed, return_hydra_config=True)
    report = SweepReport()
    report.on_multirun_start(config)
    assert (report.planned, report.at_once) == (10, at_once)


def test_a_sweep_of_several_grids_runs_the_chosen_jobs(tmp_path, sweep):
    grids = "hydra.sweeper.grids=[{convert:percentile,convert.q:1},{convert:'data_norm,none'}]"
    status, printed = sweep("hydra/sweeper=grids", grids, "simulate.duration=0.01", "convert=percentile")
    assert status == 0 and "1 finished, 0 failed" in printed, printed
    assert "grid: 1 job, 10 simulated steps" in printed
    (name,) = finished_jobs(tmp_path)
    assert "convert=percentile" in name and "convert.q=1" in name


def test_the_budget_of_several_grids_is_that_of_the_experiment_as_it_is_described(sweep):
    few = ("convert=mmse", "convert.rounding=half", "callbacks.convert.calibration_seed=0", "simulate.duration=0.008")
    status, printed = sweep("sweep=latency", *few, "data.test_size=null", "neuron.threshold=-1")  # no job runs
    whole = compose_run(["experiment=diehl_fc", "paths.run=x"])
    steps = whole.simulate.duration / whole.simulate.dt
    minutes = whole.budget_min * (0.1 + 0.9 * 0.008 / whole.simulate.duration)
    said = f"at most {duration(60 * minutes)} on two cores, by budget_min={whole.budget_min:g} for {steps:.0f} steps"
    assert status == 1 and said in printed and "latency: 1 job, " in printed


def test_a_job_whose_failure_cannot_be_written_is_a_failed_job(tmp_path, sweep):
    (tmp_path / "outputs/sweeps/diehl_fc/grid/1/failure.json/x").mkdir(parents=True)  # nothing can be written there
    status, printed = sweep("simulate.seed=0,1", "hydra.sweep.subdir=${simulate.seed}", "simulate.duration=0.01")
    assert status == 1 and "1 finished, 1 failed" in printed and "Traceback" not in printed and "Warning" not in printed
    assert printed.count("grid/1/failure.json: ") == 2  # as it ends, and at the end


def test_the_time_left_is_that_of_jobs_like_those_that_ran():
    def job(seconds, fit_s=0.0, kept=False, failure=""):
        return {"seconds": seconds, "fit_s": fit_s, "kept": kept, "failure": failure}

    once = [job(100.0, fit_s=90.0), job(12.0), job(0.1, kept=True), job(0.2, failure="x")]
    assert seconds_left(once, 10, 1) == pytest.approx(10 * (10 + 12) / 2)
    assert seconds_left(once, 10, 4) == pytest.approx(10 * 11 / 4)
    each = [job(100.0, fit_s=90.0), job(110.0, fit_s=100.0)]  # every job trains
    assert seconds_left(each, 3, 1) == pytest.approx(3 * 105)
    assert math.isnan(seconds_left(once[2:], 5, 1))
    of_steps = [job(seconds) | {"number": number} for number, seconds in enumerate((5.0, 7.0))]  # 3 s and 1 s per step
    assert seconds_left(of_steps, 2, 1, [2, 4, 10, 20]) == pytest.approx(13 + 23)
    assert seconds_left(of_steps[:1], 3, 1, [2, 4, 10, 20]) == pytest.approx(5 / 2 * 34)


def test_two_sweeps_at_once_train_once_and_do_not_hurt_each_other(tmp_path):
    environment = os.environ | {"DATA_DIR": str(tmp_path / "none"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "respike.train", "-m", *SMALL]
    both = [
        subprocess.Popen([*command, f"sweep_name={name}", "neuron.threshold=0.5,1"], cwd=tmp_path, env=environment,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for name in ("one", "two")
    ]  # fmt: skip
    printed = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    metrics = {path.parent: json.loads(path.read_text()) for path in tmp_path.rglob("metrics.json")}
    assert sum(m["time/fit_was_cached"] == 0 for m in metrics.values()) == 1
    for threshold in ("0.5", "1"):
        pair = [m for path, m in metrics.items() if f"neuron.threshold={threshold}," in path.name]
        assert len(pair) == 2 and pair[0]["snn/spikes_per_image"] == pair[1]["snn/spikes_per_image"]


def test_a_job_that_two_sweeps_have_is_run_by_one_after_the_other(tmp_path, caplog):
    cfg, running, most = OmegaConf.create({"paths": {"run": str(tmp_path / "grid" / "a=1")}}), [], []

    def train(cfg, overrides):
        running.append(overrides)
        most.append(len(running))
        time.sleep(1.5)
        running.pop()
        return overrides

    caplog.set_level("INFO")
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda number: run_job(train, cfg, [number]), range(2))) == [[0], [1]]
    assert most == [1, 1] and "waiting for another process that runs the same job" in caplog.text
