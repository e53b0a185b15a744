"""A sweep as a job array of a real Slurm gives what it gives here. `make test-slurm` starts one of a single node."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("slurm.sh")
CONF = Path(os.environ.get("SLURM_TEST_DIR", "/var/tmp/respike-slurm"), "slurm.conf")
SMALL = (
    "experiment=diehl_fc", "+data.dataset.download=false", "data.train_size=1000", "data.test_size=300", "logger=none",
    "trainer.max_epochs=1", "data.batch_size=20", "model.sizes=[784,100,10]", "callbacks.figures=null",
)  # fmt: skip
SLURM = ("hydra/launcher=submitit_slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=2")


@pytest.fixture(scope="module", autouse=True)
def slurm():
    """Skips without a Slurm, unless RESPIKE_SLURM=1 asks for one to be installed and started."""
    wanted = "start" if os.environ.get("RESPIKE_SLURM") == "1" else "status"
    done = subprocess.run([SCRIPT, wanted], capture_output=True, text=True, timeout=600)
    if done.returncode == 3 or (done.returncode and wanted == "status"):
        pytest.skip(done.stderr.strip() or "no Slurm is running; make test-slurm starts one")
    assert done.returncode == 0, done.stderr


def sweep(folder, *overrides, launcher=SLURM):
    """A multirun in `folder`; returns the metrics of its jobs by the name of their folder."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "respike.train", "-m", *SMALL, *overrides, *launcher],
        cwd=folder, capture_output=True, text=True, timeout=500,
        env=os.environ | {"DATA_DIR": str(folder / "none"), "OMP_NUM_THREADS": "1", "SLURM_CONF": str(CONF)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return {path.parent.name: json.loads(path.read_text()) for path in folder.glob("outputs/sweeps/*/*/*/metrics.json")}


def results(metrics):
    """What does not depend on the clock."""
    return {name: value for name, value in metrics.items() if not name.startswith("time/")}


def test_a_job_array_gives_the_numbers_of_the_local_launcher_with_one_training(tmp_path):
    grid = ("neuron.threshold=0.5,1", "encode.max_rate=400,1000")
    array = sweep(tmp_path / "array", *grid)
    local = sweep(tmp_path / "local", *grid, launcher=())
    assert len(array) == 4 and array.keys() == local.keys()
    for name in local:
        assert results(array[name]) == results(local[name])
    assert len({job["snn/spikes_per_image"] for job in array.values()}) == 4
    assert sorted(job["time/fit_was_cached"] for job in array.values()) == [0, 1, 1, 1]
    assert any("--array=0-3" in path.read_text() for path in tmp_path.glob("array/outputs/**/.submitit/**/*.sh"))


def test_an_array_that_is_submitted_again_keeps_what_is_finished(tmp_path):
    sweep(tmp_path, "neuron.threshold=1,2")
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("metrics.json")}
    again = sweep(tmp_path, "neuron.threshold=1,2,4")
    assert len(stamps) == 2 and len(again) == 3
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())


def test_ranks_that_slurm_starts_find_each_other(tmp_path):
    ranks = ("trainer=ddp", "hydra.launcher.tasks_per_node=2", "model.dropout=0", "neuron.threshold=1,2")
    two = sweep(tmp_path / "two", *ranks)
    one = sweep(tmp_path / "one", "model.dropout=0", "neuron.threshold=1,2", launcher=())
    assert len(two) == len(one) == 2
    pairs = [(a, b) for a in two.values() for b in one.values() if abs(a["snn/test_acc"] - b["snn/test_acc"]) < 0.02]
    assert pairs
    for job in two.values():
        assert job["test_images"] == 300
