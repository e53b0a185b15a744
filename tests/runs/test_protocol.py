"""A run is the published one if its settings, its images and its network file are, whatever was typed to get there."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from respike.data.datasets import CHECKSUMS, fashion_mnist, mnist
from respike.report.runs import read_run
from respike.runs.compose import compose_run
from respike.runs.conf import CONF, names
from respike.runs.preset import load_preset, row_config
from respike.runs.protocol import departures, departures_of_old, git_blob

REFERENCE = Path(__file__).parents[2] / "outputs" / "reference" / "runs"
NONE = {"differs": "", "other_data": "", "other_recipe": ""}


def images(name="MNIST", sha256=None):
    return SimpleNamespace(name=name, sha256=sha256 or CHECKSUMS.get(name, "of these images"))


def facts(*overrides, of=None):
    cfg = compose_run([*overrides, "paths.run=x", "name=x"])
    return departures(cfg, of or images())


def departing(*overrides, of=None):
    """The facts that are not empty, without the experiment."""
    return {key: value for key, value in facts(*overrides, of=of).items() if value and key != "experiment"}


@pytest.mark.parametrize(
    "neutral",
    [
        ["seed=3"],
        ["trainer=gpu"],
        ["logger=csv", "threads=1", "keep_networks=false", "callbacks.figures=null", "data.root=/x"],
        ["recipe=diehl_fc_authors", "method=rate", "data=mnist", "convert.output_layer=true", "trainer.max_epochs=15"],
    ],
)
def test_what_leaves_the_measurement_as_it_is_departs_from_nothing(neutral):
    assert facts("experiment=diehl_fc", *neutral) == {"experiment": "diehl_fc", **NONE}


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("trainer.max_epochs=100", "trainer.max_epochs=100"),
        ("trainer.precision=bf16-mixed", "trainer.precision=bf16-mixed"),
        ("trainer.gradient_clip_val=1", "trainer.gradient_clip_val=1"),
        ("recipe=custom", "recipe=custom"),
        ("recipe.epochs=1", "recipe.epochs=1"),
        ("convert=none", "convert=no_norm"),
        ("encode.max_rate=400", "encode.max_rate=400"),
        ("protocol.recipes=[custom]", "protocol.recipes=['custom']"),
        ("ckpt_path=x.pt", "ckpt_path=x.pt"),
        ("train=false", "train=False"),
        ("data.val_size=9", "data.val_size=9"),
        ("callbacks.convert.calibrate_on=test", "callbacks.convert.calibrate_on=test"),
        ("paper.published={snn/test_acc: 0.5}", "paper.published.snn/test_acc=0.5"),
        ("paper.headline=ann/test_acc", "paper.headline=ann/test_acc"),
    ],
)
def test_every_other_setting_is_named(typed, said):
    assert departing("experiment=diehl_fc", typed) == {"differs": said}


def test_recipes_of_the_experiment_that_did_not_train_the_published_net_are_named():
    assert departing("experiment=exact_fc") == {"other_recipe": "recipe ours"}
    assert departing("experiment=exact_fc", "recipe=exact_fc_authors") == {}
    unknown = departing("experiment=diehl_cnn", "recipe=diehl_cnn_authors")
    assert unknown == {"other_recipe": "the authors' example recipe; the published one is not known"}


def test_data_count_by_what_they_hold():
    digits = departing("experiment=digits_cnn", of=images("rendered digits"))
    assert digits == {"other_data": "rendered digits"}
    on_fashion = departing("experiment=diehl_fc", "data=fashion_mnist", of=images("Fashion-MNIST"))
    assert on_fashion == {"other_data": "Fashion-MNIST"}
    assert departing("experiment=diehl_fc", of=images(sha256="others")) == {"other_data": "MNIST"}
    vgg = ("experiment=exact_vgg_cifar10", "recipe=exact_vgg_cifar_authors")
    assert departing(*vgg, of=images("CIFAR-10 (image files)", "any")) == {"other_data": "CIFAR-10 (image files)"}
    assert departing(*vgg, "data=cifar10", of=images("CIFAR-10")) == {}


@pytest.mark.parametrize("name", names("experiment"))
def test_the_published_data_set_is_named_as_its_function(name):
    option = OmegaConf.load(CONF / "experiment" / f"{name}.yaml").get("protocol", {}).get("data")
    if option:
        assert OmegaConf.load(CONF / "data" / f"{option}.yaml").dataset._target_ == f"respike.data.datasets.{option}"


def test_a_network_file_counts_by_its_content(tmp_path):
    file = tmp_path / "cnn_99.14.mat"
    file.write_bytes(b"what is up, doc?")
    assert git_blob(file) == "bd9dbf5aae1a3862dd1526723246b20206e5fc37"  # the example of the book Pro Git
    found = departing("experiment=diehl_cnn_published", f"model.path={file}")
    assert found == {"differs": "model.path=cnn_99.14.mat, not the published file"}


def test_the_published_file_is_known(published):
    path = published("diehl2015", "cnn_99.14.mat")
    assert departing("experiment=diehl_cnn_published", f"model.path={path}") == {}


@pytest.mark.parametrize(("read", "folder"), [(mnist, "MNIST"), (fashion_mnist, "FashionMNIST")])
def test_the_checksums_are_those_of_the_published_sets(published, read, folder):
    found = read(published(folder, "raw").parents[1], download=False)
    assert found.sha256 == CHECKSUMS[found.name]


def test_overrides_of_a_preset_are_seen(tmp_path):
    preset = load_preset("paper")
    rows = {row.name: row for row in preset.rows}
    found = departures(row_config(preset, rows["diehl_fc_lambda"], [], tmp_path), images())
    assert found == {"experiment": "diehl_fc", **NONE, "differs": "convert.convention=lambda"}
    assert departures(row_config(preset, rows["diehl_fc"], [], tmp_path), images()) == {
        "experiment": "diehl_fc",
        **NONE,
    }


LATER = {"convert.scale": "layer", "convert.max_pool": "count", "convert.readout": "counts"}  # what was done before


@pytest.mark.parametrize("name", [row.name for row in load_preset("paper").rows if (REFERENCE / row.name).is_dir()])
def test_an_experiment_still_measures_what_its_committed_run_did(tmp_path, name):
    preset = load_preset("paper")
    row = next(row for row in preset.rows if row.name == name)
    now = row_config(preset, row, [], tmp_path)
    if now.method.name != "rate":
        pytest.skip("not converted to rates")
    committed = read_run(REFERENCE / name)
    for key, value in committed.items():
        block = key.removeprefix("cfg.")
        if not key.startswith("cfg.") or not block.startswith(("convert.", "encode.", "neuron.", "simulate.")):
            continue
        found = OmegaConf.select(now, block)
        if block.endswith("_target_"):
            value, found = (str(target).rpartition(".")[2] for target in (value, found))
        assert found == value or value is None or block == "simulate.encode", block
    assert now.neuron._target_.endswith(".IntegrateFire")
    for key, value in LATER.items():
        assert committed.get(f"cfg.{key}") or OmegaConf.select(now, key) in (value, None), key


def test_numbers_without_an_experiment_are_ones_own():
    own = departing(
        "model=exact_fc", "method=ttfs", "recipe=custom", "+paper={published: {ann/test_acc: 0.9}, title: T}"
    )
    assert own == {"differs": "paper.published.ann/test_acc"}
    assert departing("model=exact_fc", "method=ttfs", "recipe=custom") == {}


@pytest.mark.parametrize("name", sorted(path.name for path in REFERENCE.iterdir() if path.is_dir()))
def test_of_a_run_without_these_facts_its_config_tells_the_same(name):
    """As far as it does: only the settings that the experiment pins are compared, and an experiment is known by its name."""
    run = read_run(REFERENCE / name)
    settings = {key.removeprefix("cfg."): value for key, value in run.items() if key.startswith("cfg.")}
    found = departures_of_old(settings, run["data"], run["provenance.data.sha256"], "")
    if name.startswith("ttfs_plain_"):  # rows of the preset, not named as their experiment
        assert found == {"experiment": "", **NONE, "differs": "paper"}
        return
    assert {key: found[key] for key in ("experiment", "other_data", "other_recipe")} == {
        key: run[key] for key in ("experiment", "other_data", "other_recipe")
    }
    assert run["differs"] or not found["differs"]
