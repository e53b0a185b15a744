"""Fake run directories: what a finished run leaves behind, without training anything."""

import csv
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

PUBLISHED_CURVE = [[10, 0.1194], [12, 0.449], [15, 0.9278], [18, 0.9782], [20, 0.9841], [30, 0.9891], [40, 0.9899]]


def rising(start_ms: float, rise_ms: float, final: float, steps: int = 40) -> list[list[float]]:
    """Rows of curves.csv: from 10 % at `start_ms` up to `final`, with time constant `rise_ms` [ms]."""
    records = []
    for step in range(1, steps + 1):
        done = 1 - math.exp(-max(0.0, step - start_ms) / rise_ms)
        accuracy = round(0.1 + (final - 0.1) * done**0.5, 4)
        records.append([step, float(step), accuracy, round(accuracy + 0.008 * done, 4), round(310.5 * step, 1)])
    return records


def default_config(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "seed": 0,
        "budget_min": 20,
        "paper": {
            "title": "FC 784-1200-1200-10, data-normalized",
            "source": "Diehl et al. 2015, IJCNN",
            "published": {"ann/test_acc": 0.9862, "snn/test_acc": 0.986},
            "headline": "snn/test_acc",
        },
        "recipe": {"name": "authors"},
        "model": {"_target_": "respike.networks.mlp.MLP", "widths": [784, 1200, 1200, 10]},
        "convert": {"_target_": "respike.convert.rate.normalize.data_norm"},
        "encode": {"_target_": "respike.neurons.encode.Rate", "max_rate": 1000},
        "simulate": {"_target_": "respike.simulate.rate.layerwise.simulate", "duration": 0.04, "dt": 0.001},
    }


def default_metrics() -> dict[str, Any]:
    return {
        "data": "MNIST", "reduced": "", "test_images": 10000,
        "experiment": "diehl_fc", "differs": "", "other_data": "", "other_recipe": "",
        "ann/test_acc": 0.9865, "snn/test_acc": 0.9852, "snn/acc_drop": 0.0013, "snn/agreement": 0.9971,
        "snn/steps_to_1pct": 9, "snn/time_to_1pct_ms": 9.0,
        "snn/spikes_per_image": 12420.0, "snn/spikes_per_neuron": 3.9, "snn/synops_per_image": 5.63e6,
        "snn/rate/input": 103.2, "snn/rate/fc1": 61.7, "snn/rate/fc2": 38.4, "snn/rate/fc3": 97.5,
        "energy/ann_nj": 11012.4, "energy/snn_nj": 5067.0, "energy/mac_pj": 4.6, "energy/ac_pj": 0.9,
        "time/fit_s": 171.2, "time/convert_s": 1.4, "time/simulate_s": 22.8, "time/total_s": 199.1,
    }  # fmt: skip


def default_provenance() -> dict[str, Any]:
    return {
        "git_commit": "0123456789abcdef0123456789abcdef01234567",
        "packages": {"torch": "2.13.0", "pytorch-lightning": "2.6.0"},
        "python": "3.12.4",
        "data": {"name": "MNIST", "sha256": "ab" * 32},
        "seed": 0,
        "device": "cpu",
        "processor": "Example CPU @ 2.0GHz",
        "time": {"fit": 171.2, "convert": 1.4, "simulate": 22.8},
        "started": "2025-11-21T18:20:05",
    }


def write_run(
    path: Path,
    config: Mapping[str, Any] | None = None,
    paper: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    curve: list[list[float]] | None = None,
) -> Path:
    """A run directory; each argument replaces entries of the defaults, and a metric of None is dropped."""
    settings = default_config(path.name)
    settings["paper"] |= paper or {}
    settings |= config or {}
    measured = default_metrics() | (metrics or {})
    (path / "figures").mkdir(parents=True)
    (path / "checkpoints").mkdir()
    OmegaConf.save(OmegaConf.create(settings), path / "config.yaml")
    with (path / "curves.csv").open("w", newline="") as file:
        header = ["step", "time_ms", "acc", "agreement", "spikes_per_image"]
        csv.writer(file).writerows([header, *(curve or rising(4.5, 1.1, 0.9852))])
    (path / "disagreements.csv").write_text("index,label,ann,snn\n247,4,4,2\n")
    (path / "provenance.json").write_text(json.dumps(default_provenance()))
    (path / "metrics.json").write_text(json.dumps({k: v for k, v in measured.items() if v is not None}))
    return path


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """make_run(name, config=, paper=, metrics=, curve=) -> the path of a finished run directory."""
    return lambda name, **parts: write_run(tmp_path / "runs" / name, **parts)


@pytest.fixture(scope="session")
def write() -> Callable[..., Path]:
    """`write_run`, for folders that several tests read."""
    return write_run


@pytest.fixture(scope="session")
def many_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of five runs, only to be read: one network twice, another in full and reduced, one unpublished."""
    folder = tmp_path_factory.mktemp("many") / "runs"
    cnn = {"config": {"model": {"_target_": "respike.networks.diehl_cnn.DiehlCNN"}, "budget_min": 2}}
    cnn_title = "CNN 28x28-12c5-2s-64c5-2s-10o, "
    published = {"ann/test_acc": 0.9914, "snn/test_acc": 0.991}
    write_run(folder / "diehl_fc")
    write_run(
        folder / "diehl_fc_raw",
        paper={"title": "FC 784-1200-1200-10, raw, 200 Hz", "published": {}},
        metrics={"snn/test_acc": 0.9557, "snn/acc_drop": 0.0308, "snn/steps_to_1pct": 36, "snn/time_to_1pct_ms": 36.0},
        curve=rising(11.5, 7.0, 0.9631),
    )
    write_run(
        folder / "diehl_cnn",
        paper={"title": cnn_title + "data-normalized", "published": published, "curve": PUBLISHED_CURVE},
        metrics={"ann/test_acc": 0.9908, "snn/test_acc": 0.9871, "snn/acc_drop": 0.0037, "time/total_s": 421.0},
        curve=rising(9.2, 2.1, 0.9871),
        **cnn,
    )
    reduced = {"reduced": "1 of 5 epochs; 1000 test images", "test_images": 1000, "time/total_s": 31.0}
    write_run(
        folder / "diehl_cnn_quick",
        paper={"title": cnn_title + "400 Hz", "published": published, "curve": PUBLISHED_CURVE},
        metrics={"ann/test_acc": 0.9741, "snn/test_acc": 0.9666, "snn/acc_drop": 0.0075, **reduced},
        curve=rising(14.0, 5.0, 0.969),
        **cnn,
    )
    unpublished = {"paper": None, "model": {"_target_": "own.Net"}}
    write_run(folder / "own <net> | a&b", config=unpublished, metrics={"data": "FashionMNIST"})
    return folder
