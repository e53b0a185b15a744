"""A directly trained spiking network from the command line to files and tables: tiny, on rendered digits."""

import csv
import json
import sys
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from hydra.utils import instantiate
from PIL import Image

from respike.data.datamodule import ImageDataModule
from respike.data.datasets import fashion_mnist, mnist
from respike.report.__main__ import main as report
from respike.runs.compose import compose_run
from respike.train import main, train

TINY = (
    "model.width_mult=0.125",
    "recipe.batch_size=10",
    "recipe.scheduler.max_lr=0.005",
    "model.blocks=[1,1]",
    "model.hidden=64",
    "data=digits",
    "data.dataset.train_count=1300",
    "data.dataset.test_count=100",
    "data.dataset.rotation=0",
    "data.train_size=1120",
    "data.val_size=100",
    "data.test_size=60",
    "trainer.max_epochs=3",
    "logger=none",
)


def run(folder, name, *overrides):
    """One in-process run in folder/name; returns its metrics."""
    places = [f"paths.run={folder / name}", f"paths.outputs={folder}", f"paths.data={folder / 'none'}", f"name={name}"]
    cfg = compose_run(["experiment=stbp_resnet19_narrow", *TINY, *places, *overrides])
    return train(cfg, ["data.val_size=100"])


def table(file):
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("direct")
    return folder, run(folder, "first", "simulate.steps=3")


def test_it_learns_and_says_that_it_is_narrow_and_reduced(finished):
    _, metrics = finished
    assert metrics["snn/test_acc"] > 0.3 and metrics["snn/val_acc"] > 0.3  # ten classes: chance is 0.1
    for reason in ("narrow: 0.125 of the width", "3 of 8 epochs", "1,120 of 1,300 training images", "60 of 100 test"):
        assert reason in metrics["reduced"]
    assert not any(name.startswith("ann/") for name in metrics)


def test_its_files_agree(finished):
    folder, metrics = finished
    curve, layers, epochs = (table(folder / "first" / f"{name}.csv") for name in ("curves", "activity", "training"))
    assert [row["step"] for row in curve] == ["1", "2", "3"]  # one more than it was trained for
    assert float(curve[-1]["acc"]) == metrics["snn/test_acc"]
    assert float(curve[-1]["spikes_per_image"]) == metrics["snn/spikes_per_image"]
    names = [name.removeprefix("snn/activity/") for name in metrics if name.startswith("snn/activity/")]
    assert names == ["stem", "block1.1", "block1.2", "block2.1", "block2.2", "fc1", "fc2"]
    for name in names:
        mean = sum(float(row[name]) for row in layers) / 3
        assert metrics[f"snn/activity/{name}"] == pytest.approx(mean)
        assert all(0 <= float(row[f"activity/{name}"]) <= 1 for row in epochs)
    image = table(folder / "first" / "image_rates.csv")
    assert [row["layer"] for row in image] == names and all(0 <= float(row["spikes_per_neuron"]) <= 3 for row in image)
    best = min(epochs, key=lambda row: float(row["val_loss"]))
    assert metrics["snn/val_acc"] == float(best["val_acc"])


@pytest.mark.parametrize(("dataset", "drawn"), [(mnist, True), (fashion_mnist, False)])
def test_published_rates_are_drawn_beside_the_data_they_are_of(dataset, drawn, tmp_path):
    figures = instantiate(compose_run(["experiment=stbp_resnet19", f"paths.run={tmp_path}"]).callbacks.figures)
    data = ImageDataModule(partial(dataset), root=str(tmp_path), batch_size=10)
    assert figures.published_rates and figures._on_published_data(SimpleNamespace(datamodule=data)) == drawn


def test_energy_is_that_of_the_operations(finished):
    _, metrics = finished
    stem = (
        9 * 28 * 28 - 2 * 3 * 28 - 2 * 3 * 28 + 4
    )  # products of a 3x3 kernel of one channel, without those on the border
    analog = 3 * 8 * stem * 4.6
    assert metrics["energy/snn_nj"] == pytest.approx((metrics["snn/synops_per_image"] * 0.9 + analog) / 1000)


def test_its_pictures_are_there_and_none_is_empty(finished):
    folder, _ = finished
    names = {"accuracy", "confusion", "firing_rates", "layer_rates", "membrane_potentials", "rates_over_epochs"}
    drawn = {path.stem: Image.open(path) for path in (folder / "first" / "figures").iterdir()}
    assert set(drawn) == names | {"rates_over_steps", "samples", "training"}
    assert all(len(picture.convert("L").getcolors()) > 10 for picture in drawn.values())


def test_its_weights_go_through_the_test_again_without_training(finished):
    folder, before = finished
    weights = folder / "first" / "checkpoints" / "weights.pt"
    again = run(folder, "again", "train=false", f"ckpt_path={weights}", "simulate.steps=3", "callbacks.figures=null")
    assert {k: v for k, v in again.items() if k.startswith("snn/") and k != "snn/test_loss"} == {
        k: v for k, v in before.items() if k.startswith("snn/") and k not in ("snn/val_acc", "snn/test_loss")
    }
    assert "time/fit_s" not in again and "epochs" not in again["reduced"]


def test_reports_and_comparisons_take_such_runs(finished, capsys):
    folder, metrics = finished
    run(folder, "other", "neuron.v_th=0.8", "trainer.max_epochs=1", "callbacks.figures=null")
    assert report([str(folder / "first"), "--out", str(folder / "report")]) == 0
    assert report([str(folder / "first"), str(folder / "other"), "--compare", "--out", str(folder / "compared")]) == 0
    page = (folder / "report" / "REPORT.md").read_text()
    assert f"{100 * metrics['snn/test_acc']:.2f} %" in page and "(98.85 %)" in page
    assert "V_th" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model.steps=0"], "model.steps=0"),
        (["neuron.v_th=0"], "neuron.v_th=0"),
        (["neuron.v_th=-1"], "neuron.v_th=-1"),
        (["neuron/surrogate=rectangle", "neuron.surrogate.a=0"], "neuron.surrogate.a=0"),
        (["neuron.surrogate.centre=left"], "neuron.surrogate.centre=left"),
        (["neuron=integrate_fire", "~neuron/surrogate"], "the network cannot be trained; type neuron=lif"),
        (["neuron=integrate_fire"], "neuron=integrate_fire takes no surrogate"),
        (["simulate.steps=0"], "simulate.steps=0"),
        (["simulate.chunk=0"], "simulate.chunk=0"),
        (["data.val_size=0"], "data.val_size=6000"),
        (["recipe.keep=first"], "recipe.keep=first"),
        (["recipe.patience=0"], "recipe.patience=0"),
        (["model.std=[0]"], "model.std"),
        (["model.mean=[0,0,0]", "model.std=[1,1,1]"], "(1, 28, 28)"),
        (["callbacks.figures.image=60"], "callbacks.figures.image=60"),
        (["model=diehl_fc", "recipe=custom"], "type method=rate"),
        (["callbacks=rate", "convert=data_norm", "encode=rate", "simulate=rate"], "leave convert= out"),
        (["train=false", "ckpt_path={wide}"], "of another network"),
    ],
)
def test_bad_input_is_a_line_and_a_status(tmp_path, monkeypatch, capsys, overrides, words):
    torch.save({"stem.weight": torch.zeros(64, 1, 3, 3)}, tmp_path / "wide.pt")
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "none"))
    given = [override.format(wide=tmp_path / "wide.pt") for override in overrides]
    tiny = [o for o in TINY if not (o.startswith("model.") and any(g.startswith("model=") for g in given))]
    places = [f"hydra.run.dir={tmp_path / 'run'}", f"paths.outputs={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["respike.train", "experiment=stbp_resnet19_narrow", *tiny, *places, *given])
    with pytest.raises(SystemExit) as ended:
        main()
    error = capsys.readouterr().err
    assert ended.value.code == 1 and "Traceback" not in error and error.count("respike: ") == 1
    assert words in error
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_metrics_are_plain_numbers(finished):
    folder, _ = finished
    written = json.loads((folder / "first" / "metrics.json").read_text())
    assert all(value == value for value in written.values())  # no NaN
