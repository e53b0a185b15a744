"""The jobs of grids: counted as Hydra makes them, chosen by typed values; what is refused before the first one starts."""

import importlib.util
import re

import pytest
from hydra import compose, initialize_config_dir

from respike.errors import InputError
from respike.runs.compose import CONF, compose_run, names
from respike.runs.grid import OPTIONAL, check_grid, check_installed, grid_jobs, varied


def test_the_jobs_of_a_grid_are_counted_as_hydra_makes_them():
    params = {"neuron.threshold": "0.25,0.5,1", "simulate.seed": "range(10)"}
    assert varied(["experiment=diehl_fc"], params) == {"neuron.threshold": 3, "simulate.seed": 10}
    assert varied(["simulate.seed=3", "neuron.threshold=1,2"], params) == {"neuron.threshold": 2}
    assert varied(["a=interval(0,1)", "convert=glob(*)", "+b=choice(x,y)"], None) == {"a": 0, "convert": 0, "+b": 2}


GRIDS = [
    {"convert": "percentile,data_norm", "simulate.duration": "0.04", "simulate.seed": "range(2)"},
    {"convert": "percentile", "convert.q": "0.9", "simulate.duration": "0.01,0.04", "simulate.seed": "range(2)"},
]


# What is typed, the number of jobs, and what every job has.
CHOICES = [
    ([], 8, []),
    (["data.test_size=7"], 8, ["data.test_size=7"]),
    (["data.test_size=7,8"], 16, []),
    (["convert=data_norm"], 2, ["convert=data_norm", "simulate.duration=0.04"]),
    (["convert=percentile", "simulate.seed=1"], 3, ["convert=percentile", "simulate.seed=1"]),
    (["convert.q=0.9"], 4, ["convert=percentile", "convert.q=0.9"]),  # only where it is listed
    (["convert.q=0.8"], 8, ["convert.q=0.8"]),
    (["simulate.seed=0,1,2"], 12, []),
    (["simulate.duration=0.02"], 6, ["simulate.duration=0.02"]),  # two durations of the second grid become one
    (["simulate.duration=0.01", "convert.q=0.9"], 2, ["simulate.duration=0.01"]),
    (['convert="data_norm"', "simulate.seed='0','1'"], 2, ["convert=data_norm"]),
]


@pytest.mark.parametrize(("typed", "number", "shared"), CHOICES)
def test_typed_values_choose_among_the_jobs_of_several_grids_or_replace_theirs(typed, number, shared):
    jobs = grid_jobs(GRIDS, typed)
    assert len(jobs) == len({tuple(job) for job in jobs}) == number
    assert all(set(shared) <= set(job) for job in jobs)
    assert not any("convert=data_norm" in job and "convert.q=0.9" in job for job in jobs)


def test_values_of_different_grids_have_no_job():
    with pytest.raises(InputError, match=r"^convert=data_norm convert.q=0.9: the sweep has no job"):
        grid_jobs(GRIDS, ["convert=data_norm", "convert.q=0.9"])


@pytest.mark.parametrize(
    ("overrides", "params"),
    [
        (["neuron.threshold=1,2"], None),
        (["experiment=diehl_fc", "simulate.seed=range(3)"], None),
        (["encode.max_rate=choice(100,200)"], {}),
        (["experiment=diehl_fc"], {"neuron.threshold": "1,2"}),
    ],
)
def test_a_grid_is_several_values_typed_or_named(overrides, params):
    assert check_grid(overrides, params) is None


@pytest.mark.parametrize(
    ("overrides", "words"),
    [([], "something to vary"), (["experiment=diehl_fc"], "sweep=threshold_rate"), (["seed="], "seed=: no value")],
)
def test_an_empty_grid_is_refused_with_what_to_type(overrides, words):
    with pytest.raises(InputError, match=words):
        check_grid(overrides, None)


@pytest.mark.parametrize("name", names("sweep"))
def test_every_named_sweep_names_itself_and_varies_keys_that_exist(name):
    exact = name in ("alpha_noise", "spike_time_noise", "time_levels", "weight_noise", "zeta")
    others = {"vth_a": "stbp_resnet19_narrow", "qcfs": "qcfs_resnet20_given_cifar10"}
    experiment = "exact_fc" if exact else others.get(name, "diehl_fc")
    given = [f"experiment={experiment}", f"sweep={name}"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", overrides=given, return_hydra_config=True)
        assert cfg.sweep_name == name and cfg.hydra.mode.name == "MULTIRUN"
        grids = cfg.hydra.sweeper.get("grids") or [cfg.hydra.sweeper.params]
    for grid in grids:
        values = {key: str(values).split(",")[-1] for key, values in grid.items()}
        values = {key: re.sub(r"range\((\d+)\)", lambda n: str(int(n[1]) - 1), value) for key, value in values.items()}
        last = compose_run(["paths.run=x", *given, *(f"{key}={value}" for key, value in values.items())])
        assert last.callbacks.figures is None and not last.keep_networks
        assert values and ("time_noise" in last.simulate) == exact


@pytest.mark.parametrize("name", OPTIONAL)
def test_a_launcher_that_is_not_installed_names_the_extra(name, monkeypatch):
    choice, module = OPTIONAL[name]
    check_installed(f"some.module.{name}")  # the test environment has all of them
    monkeypatch.setattr(importlib.util, "find_spec", lambda asked: None if asked == module else object())
    with pytest.raises(InputError, match=rf"{choice} needs {module}.*respike\[cluster\]"):
        check_installed(f"some.module.{name}")
    check_installed("hydra._internal.core_plugins.basic_launcher.BasicLauncher")
