"""Real configs, and grids of fake runs made of them."""

import json
import shutil
from itertools import product

import pytest
from omegaconf import OmegaConf

from respike.report import load_runs
from respike.runs.compose import compose_run


def composed(*overrides):
    """The resolved config of what is typed, as config.yaml holds it."""
    cfg = compose_run(["paths.run=out", "experiment=diehl_cnn", *overrides])
    return OmegaConf.to_container(cfg, resolve=True)


@pytest.fixture(scope="session")
def resolved():
    """resolved(*overrides) -> the composed, resolved config."""
    return composed


@pytest.fixture(scope="session")
def grid_configs():
    """(threshold, rate, normalization) -> config, 3 x 2 x 2."""
    cells = product((0.5, 1, 2), (200, 1000), ("none", "data_norm"))
    return {(t, r, c): composed(f"neuron.threshold={t}", f"encode.max_rate={r}", f"convert={c}") for t, r, c in cells}


def accuracy(threshold, rate, convert):
    """A different number for each cell; threshold 2 is dead."""
    return 0.1 if threshold == 2 else 0.9 + 0.02 * threshold + rate / 1e5 + 0.001 * (convert == "none")


@pytest.fixture(scope="session")
def grid_runs(write, grid_configs, tmp_path_factory):
    """The frame of the grid's runs, without the one of threshold 1, 200 Hz, none; their folders are only to be read."""
    folder = tmp_path_factory.mktemp("grid")
    for (t, r, c), config in grid_configs.items():
        if (t, r, c) != (1, 200, "none"):
            metrics = {
                "snn/test_acc": accuracy(t, r, c), "snn/time_to_1pct_ms": 0.0 if t == 2 else 1000 * t / r,
                "snn/spikes_per_image": r / t, "energy/snn_nj": 0.2 * r / t,
            }  # fmt: skip
            write(folder / f"{t}-{r}-{c}", config=config, metrics=metrics)
    return load_runs([folder])


@pytest.fixture
def sweep(grid_runs, tmp_path):
    """tmp_path, with a copy of the grid's runs in runs/."""
    shutil.copytree(grid_runs["path"].iloc[0].parent, tmp_path / "runs")
    return tmp_path


@pytest.fixture
def make_failure(tmp_path):
    """make_failure(name, config, overrides, reason) -> the directory of a job that failed."""

    def make(name, config, overrides, reason):
        path = tmp_path / "runs" / name
        path.mkdir(parents=True)
        OmegaConf.save(OmegaConf.create(config), path / "config.yaml")
        (path / "failure.json").write_text(json.dumps({"overrides": overrides, "reason": reason}))
        return path

    return make
