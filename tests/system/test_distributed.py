"""Two gloo processes train, convert and simulate as one does. Real MNIST images, from the package's subset."""

import json
import os
import subprocess
import sys

import pytest
import torch
from pytorch_lightning import Trainer

from respike.data.datamodule import ShuffledBatches
from respike.errors import InputError
from respike.runs.compose import compose_run
from respike.system import distributed
from respike.train import main, train

SMALL = (
    "experiment=diehl_fc", "+data.dataset.download=false", "data.train_size=1010", "data.test_size=999", "logger=none",
    "trainer.max_epochs=1", "data.batch_size=20", "model.sizes=[784,100,10]",
    "model.dropout=0", "recipe.init.bound=0.05", "recipe.optimizer.lr=0.3",
    "convert=percentile", "convert.zeros=false", "callbacks.figures=null",
)  # fmt: skip


def run(folder, name, *overrides):
    """`python -m respike.train` in `folder`, its run in folder/name; returns its metrics."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
    done = subprocess.run(
        [sys.executable, "-m", "respike.train", f"hydra.run.dir={folder / name}", *SMALL, *overrides],
        cwd=folder, env=environment | {"DATA_DIR": str(folder / "none"), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / name / "metrics.json").read_text())


def run_here(folder, name, *overrides):
    """The same run in this process alone."""
    places = [f"paths.run={folder / name}", f"paths.outputs={folder / 'outputs'}", f"paths.data={folder / 'none'}"]
    return train(compose_run([*SMALL, *places, *overrides]))


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A run of two processes, and one of a single process on the weights that they trained."""
    folder = tmp_path_factory.mktemp("ranks")
    two = run(folder, "two", "trainer=ddp")
    one = run_here(folder, "one", "train=false", f"ckpt_path={folder / 'two' / 'checkpoints' / 'ann.pt'}")
    return folder, two, one


def test_two_processes_simulate_what_one_does(both):
    folder, two, one = both
    counted = [name for name in one if not name.startswith("time/") and isinstance(one[name], float | int)]
    assert {"snn/test_acc", "snn/synops_per_image", "convert/factor/linear1", "ann/train_acc"} <= set(counted)
    assert {name: two[name] for name in counted} == {name: one[name] for name in counted}
    for file in ("curves.csv", "disagreements.csv", "operations.csv"):
        assert (folder / "two" / file).read_text() == (folder / "one" / file).read_text()


def test_two_processes_take_a_training_that_is_there(both):
    """The second process, which starts at the first test, does not train while the first one tests."""
    folder, two, _ = both
    again = run(folder, "again", "trainer=ddp", "simulate.duration=0.01")
    assert again["time/fit_was_cached"] == 1 and again["ann/test_acc"] == two["ann/test_acc"]
    assert not list((folder / "outputs").rglob("*.unfinished"))


def test_two_processes_train_what_one_does_and_the_first_alone_writes(both):
    folder, two, _ = both
    assert {path.name for path in (folder / "two").iterdir()} == {
        ".hydra", "checkpoints", "config.yaml", "curves.csv", "disagreements.csv", "metrics.json", "operations.csv",
        "provenance.json", "train.log", "training.csv",
    }  # fmt: skip
    alone = run_here(folder, "alone")
    assert alone["time/fit_was_cached"] == 0
    assert two["ann/test_acc"] == pytest.approx(alone["ann/test_acc"], abs=0.01)
    weights = [torch.load(folder / name / "checkpoints" / "ann.pt", weights_only=True) for name in ("two", "alone")]
    for name, value in weights[0].items():  # sums of 20 gradients and of 10 + 10 round differently
        torch.testing.assert_close(value, weights[1][name], rtol=0, atol=2e-5)


def test_several_devices_without_ddp_are_refused():
    """Lightning would give each process every second batch, of which it would train on a half."""
    trainer = Trainer(accelerator="cpu", devices=2, logger=False, enable_checkpointing=False)
    with pytest.raises(InputError, match=r"trainer.devices=2 on 1 node\(s\): type trainer=ddp as well"):
        distributed.init_distributed(trainer)


def test_shards_in_rank_order_are_the_whole(monkeypatch):
    assert distributed.shard_range(7) == range(7) and distributed.world_size() == 1
    assert distributed.all_gather("mine") == ["mine"] and distributed.broadcast("mine") == "mine"
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    for world_size, count in ((1, 5), (3, 7), (4, 2)):
        monkeypatch.setattr(distributed, "world_size", lambda world_size=world_size: world_size)
        shards = []
        for rank in range(world_size):
            monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
            shards += distributed.shard_range(count)
        assert shards == list(range(count))


@pytest.mark.parametrize("transform", [None, lambda x: x + torch.rand(len(x), 1, 1, 1)])
@pytest.mark.parametrize(("size", "ranks"), [(6, 2), (6, 3), (5, 2)])
def test_ranks_share_every_batch_in_equal_parts(transform, size, ranks):
    images, labels = torch.arange(16, dtype=torch.uint8).view(16, 1, 1, 1), torch.arange(16)
    whole = ShuffledBatches(images, labels, labels, size, seed=3, transform=transform)
    parts = [ShuffledBatches(images, labels, labels, size, 3, transform, (rank, ranks)) for rank in range(ranks)]
    for b in range(len(whole)):
        x, y = whole[b]
        shares = [part[b] for part in parts]
        assert len({len(labels) for _, labels in shares}) == 1
        given = {
            int(label): float(pixel) for pixels, labels in shares for pixel, label in zip(pixels, labels, strict=True)
        }
        assert given == dict(zip(y.tolist(), x.flatten().tolist(), strict=True))


@pytest.mark.parametrize("more", [["hydra/launcher=basic"], ["hydra/launcher=joblib", "hydra.launcher.n_jobs=1"]])
def test_processes_that_restart_the_command_line_are_refused_in_a_multirun(tmp_path, monkeypatch, capfd, more):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "none"))
    sweep = ["neuron.threshold=1,2", "trainer=ddp", "hydra.sweep.dir=sweep"]
    monkeypatch.setattr(sys, "argv", ["respike.train", "-m", *SMALL, *sweep, *more])
    with pytest.raises(SystemExit):
        main()
    assert "hydra/launcher=submitit_slurm hydra.launcher.tasks_per_node=2" in capfd.readouterr().out
