"""The exact mapping from the command line's config to the report: small real runs, read back."""

import csv
import functools
import json
import sys

import h5py
import pytest
import torch

from respike.callbacks import simulate_test_set
from respike.callbacks.simulate_ttfs import SimulateTTFS, summary
from respike.report import load_runs, write_report
from respike.report.comparison import compare, write_comparison
from respike.runs.compose import compose_run
from respike.simulate.ttfs.record import LayerCounts, TTFSRecord
from respike.train import main, train

SMALL = (
    "+data.dataset.download=false", "data.train_size=400", "data.test_size=60", "recipe.epochs=3", "recipe.batch_size=20",
    "logger=none",
)  # fmt: skip
NARROW = "model.sizes=[784,24,20,10]"


def run(folder, name, *overrides):
    """One in-process run in folder/name; returns its metrics. Without figures, which other tests draw."""
    places = [f"paths.run={folder / name}", f"paths.outputs={folder}", f"paths.data={folder}", f"name={name}"]
    return train(compose_run([*SMALL, *overrides, *places, "callbacks.figures=null"]))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of each of three conversions of one network, their metrics by name."""
    folder = tmp_path_factory.mktemp("exact")
    runs = {name: run(folder, name, f"experiment={name}", NARROW) for name in ("exact_fc", "exact_fc_data_norm")}
    return folder, runs | {"zeta": run(folder, "zeta", "experiment=exact_fc", NARROW, "convert.zeta=-0.9")}


def test_nothing_is_lost_and_nothing_disagrees(finished):
    folder, runs = finished
    exact = runs["exact_fc"]
    assert exact["ann/test_acc"] == exact["snn/test_acc"] > 0.5  # ten classes: chance is 0.1
    assert exact["snn/agreement"] == 1 and exact["ttfs/largest_logit_difference"] < 1e-9
    assert len((folder / "exact_fc" / "disagreements.csv").read_text().splitlines()) == 1
    assert not (folder / "exact_fc" / "curves.csv").exists()
    assert exact["convert/zeta"] == 0.5
    x1, x2 = exact["convert/x/linear1"], exact["convert/x/linear2"]
    assert exact["ttfs/latency"] == pytest.approx(1 + 1.5 * (x1 + x2)) == exact["convert/t_max/linear2"]
    assert exact["energy/snn_nj"] == pytest.approx(exact["snn/synops_per_image"] * 0.9e-3)
    assert exact["energy/ann_nj"] == pytest.approx((784 * 24 + 24 * 20 + 20 * 10) * 4.6e-3)
    assert 0 < exact["snn/spikes_per_image"] < 44


def test_a_share_in_the_log_is_never_rounded_up_to_all():
    counts = {"a": LayerCounts(10**9, 10**9 - 3, 1, 5)}
    record = TTFSRecord(torch.arange(4), torch.zeros(4, 2), LayerCounts(9, 0, 0, 9), counts, {"a": 1}, 14.461, 9)
    said = summary(record, {"ttfs/certified": 1 - 3e-9, "snn/agreement": 0.75, "snn/test_acc": 0.5})
    assert said.startswith("agreement 3 of 4, 99.9999 % certified by the bound (all but 3 pairs), 1 early crossings")
    assert "latency 14.46" in said


def test_too_small_a_margin_is_told_by_the_disagreements(finished):
    folder, runs = finished
    assert runs["zeta"]["ttfs/early"] > 0 and runs["zeta"]["ttfs/latency"] < runs["exact_fc"]["ttfs/latency"]
    with (folder / "zeta" / "disagreements.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == round(60 * (1 - runs["zeta"]["snn/agreement"])) > 0
    assert all(row["ann"] != row["snn"] for row in rows)


def test_conversions_of_one_network_train_it_once(finished):
    _, runs = finished
    assert [bool(metrics["time/fit_was_cached"]) for metrics in runs.values()] == [False, True, True]
    assert len({metrics["ann/test_acc"] for metrics in runs.values()}) == 1


def test_a_run_starts_from_the_training_of_another_experiment_which_is_done_once(tmp_path):
    few = [option for option in SMALL if not option.startswith("recipe.")]
    places = [f"paths.outputs={tmp_path}", f"paths.data={tmp_path}", "callbacks.figures=null"]
    mapped = [
        "experiment=ttfs_finetune_fc_latency",
        "train=false",
        "lit.quantile=1.0",
        f"paths.run='{tmp_path / 'simulate.trial=0,seed=(1)'}'",  # a job of a sweep
    ]
    first = train(compose_run([*few, *places, *mapped]))
    second = train(compose_run([*few, *places, "experiment=exact_fc", f"paths.run={tmp_path / 'exact'}"]))
    assert second["time/fit_was_cached"]
    assert first["ann/test_acc"] == second["ann/test_acc"] > 0.5


def test_the_report_lays_rates_and_spike_times_side_by_side(finished, tmp_path):
    folder, runs = finished
    loaded = load_runs([folder / name for name in runs])
    group = {"title": "one net", "runs": ["exact_fc", "exact_fc_data_norm"], "table": True}
    write_report(loaded, {}, tmp_path / "report", "title", [group])
    page = (tmp_path / "report" / "REPORT.md").read_text()
    table = page.split("## one net")[1].split("## ")[0]
    exact, rates = (
        next(line for line in table.splitlines() if line.startswith(f"| {name} |")) for name in runs if name != "zeta"
    )
    assert f"{runs['exact_fc']['ttfs/latency']:.3g} intervals" in exact and "100.00 %" in exact
    assert f"{runs['exact_fc_data_norm']['snn/time_to_1pct_ms']:g} ms" in rates


def test_runs_of_spike_times_are_compared_by_their_latency(finished, tmp_path):
    folder, _ = finished
    comparison = compare(load_runs([folder / name for name in ("exact_fc", "zeta")]))
    assert [setting.typed for setting in comparison.settings] == ["convert.zeta"]
    assert comparison.latency.key == "ttfs/latency"
    written = {path.name for path in write_comparison(comparison, tmp_path / "out", "title")}
    assert {"index.html", "compare-zeta.png", "compare-trade-off.png"} <= written


def test_trials_of_noise_are_one_point_and_convert_once(finished):
    folder, runs = finished
    noise = ["experiment=exact_fc", NARROW, "simulate.time_noise=0.5"]
    trials = [run(folder, f"trial{t}", *noise, f"simulate.trial={t}") for t in range(2)]
    assert trials[0]["ttfs/largest_logit_difference"] != trials[1]["ttfs/largest_logit_difference"] > 0.1
    assert trials[0]["convert/x/linear1"] == runs["exact_fc"]["convert/x/linear1"]
    comparison = compare(load_runs([folder / name for name in ("exact_fc", "trial0", "trial1")]))
    assert [setting.typed for setting in comparison.settings] == ["simulate.time_noise"]
    assert list(comparison.points["runs"]) == [1, 2]


def test_of_several_ranks_each_evaluates_its_share_and_the_whole_is_the_same(finished, monkeypatch):
    """Two ranks, one after the other: the records they gather are those of a single one."""
    folder, _ = finished
    seen = []
    monkeypatch.setattr(SimulateTTFS, "on_test_end", lambda self, trainer, module: seen.append((self, trainer, module)))
    run(folder, "ranks", "experiment=exact_fc", NARROW)
    callback, trainer, module = seen[0]
    snn = next(c.snn for c in trainer.callbacks if hasattr(c, "snn"))
    arguments = callback.simulate, snn, trainer.datamodule, module.device
    whole = simulate_test_set.simulate_test_set(*arguments)

    given = []
    for rank in range(2):
        shard = functools.partial(lambda n, rank: range(n * rank // 2, n * (rank + 1) // 2), rank=rank)
        monkeypatch.setattr(simulate_test_set, "shard_range", shard)
        monkeypatch.setattr(simulate_test_set, "all_gather", lambda records: given.append(records) or [records])
        simulate_test_set.simulate_test_set(*arguments, 7)
    monkeypatch.setattr(simulate_test_set, "all_gather", lambda records: given[:2])
    record = simulate_test_set.simulate_test_set(*arguments)
    assert sum(len(records) for records in given[:2]) > 2, "each rank simulates its share in parts"
    assert torch.equal(record.index, whole.index) and record.synops == whole.synops
    torch.testing.assert_close(record.logits, whole.logits, rtol=1e-12, atol=1e-12)
    assert {name: counts.active for name, counts in record.counts.items()} == {
        name: counts.active for name, counts in whole.counts.items()
    }


def test_a_keras_file_is_mapped_without_training(tmp_path):
    """Random weights of 784-600-10 as Keras writes them."""
    random = torch.Generator().manual_seed(0)
    with h5py.File(tmp_path / "net.h5", "w") as file:
        file.attrs["layer_names"] = ["dense", "dense_1"]
        for name, shape in (("dense", (784, 600)), ("dense_1", (600, 10))):
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/kernel:0", f"{name}/bias:0"]
            group[f"{name}/kernel:0"] = (torch.randn(shape, generator=random) / 30).numpy()
            group[f"{name}/bias:0"] = torch.zeros(shape[1]).numpy()
    small = [override for override in SMALL if not override.startswith("recipe.")]
    given = ["model=published_keras", f"model.path={tmp_path / 'net.h5'}", "train=false", "recipe=pretrained"]
    places = [f"paths.{name}={tmp_path}" for name in ("run", "outputs", "data")]
    metrics = train(compose_run(["experiment=exact_fc", *small, *given, *places, "callbacks.figures=null"]))
    assert metrics["snn/agreement"] == 1 and "time/fit_s" not in metrics


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["experiment=exact_fc", "convert=data_norm"], "convert=exact_map"),
        (["experiment=diehl_fc", "convert=exact_map"], "method=ttfs"),
        (["experiment=exact_fc", "convert.zeta=-1"], "convert.zeta=-1"),
        (["experiment=exact_fc", "convert.input_range=[0,0.5]"], "leave the input range [0, 0.5]"),
        (["experiment=exact_fc", "lit.activity_penalty=-1"], "lit.activity_penalty=-1"),
        (["experiment=exact_fc", "model=published_keras", "train=false", "recipe=pretrained"], "model.path=null"),
        (["data=digits", "model=digits_cnn", "recipe=digits_authors", "method=ttfs", "convert=none"], "type lit=relu"),
    ],
)
def test_bad_input_is_a_line_before_any_training(tmp_path, monkeypatch, capsys, overrides, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "none"))
    own = [f"hydra.run.dir={tmp_path / 'run'}", "logger=none", "callbacks.figures=null", *overrides]
    own += [] if "digits" in overrides[0] else [SMALL[0]]
    monkeypatch.setattr(sys, "argv", ["respike.train", *own])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    error = capsys.readouterr().err
    assert words in error and "Traceback" not in error
    assert not list((tmp_path / "outputs").rglob("model.ckpt"))


def test_small_photographs_go_through_a_pretrained_net_file(tmp_path):
    """Eight random images of 64 pixels, and a narrow VGG16 of random weights."""
    from PIL import Image
    from torchvision.models.vgg import make_layers

    torch.manual_seed(0)
    conv = make_layers([3, 4, "M", 4, 5, "M", 6, 6, 6, "M", 5, 6, 6, "M", 6, 5, 7, "M"])
    torch.save(
        torch.nn.Sequential(*conv, torch.nn.Linear(28, 12), torch.nn.Linear(12, 9), torch.nn.Linear(9, 5)).state_dict(),
        tmp_path / "vgg16.pth",
    )
    for part in ("train", "test"):
        (tmp_path / "photos" / part / "any").mkdir(parents=True)
        for i in range(4):
            pixels = torch.randint(0, 256, (70, 64, 3), dtype=torch.uint8).numpy()
            Image.fromarray(pixels).save(tmp_path / "photos" / part / "any" / f"{i}.png")
    places = [
        f"paths.run={tmp_path / 'run'}",
        f"paths.outputs={tmp_path}",
        "logger=none",
        f"data.root={tmp_path / 'photos'}",
    ]
    given = [f"model.path={tmp_path / 'vgg16.pth'}", "model.side=64", "data.dataset.size=64"]
    metrics = train(
        compose_run(["experiment=exact_vgg16_pass", *places, *given, f"+data.dataset.cache_dir={tmp_path}"])
    )
    assert metrics["snn/agreement"] == 1 and metrics["data"] == "PASS" and metrics["test_images"] == 4
    assert metrics["calibrated_on"] == "4 training images"
    assert metrics["ttfs/largest_logit_difference"] < 1e-9
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["snn/agreement"] == 1
