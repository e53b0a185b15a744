"""Kills a training (SIGKILL) at random moments and starts it again, until it is done; its weights must be those of a whole one.

python tests/training/kill_training.py FOLDER KILLS SEED prints how many kills fell on how many trainings.
"""

import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

from respike.system import torchvision_guard  # noqa: F401  before pytorch_lightning, which imports torchvision

# isort: split
import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from respike.data.datamodule import ImageDataModule
from respike.runs.compose import compose_run
from respike.system.messages import quiet_libraries
from respike.training.fit import fit_once, make_network

CROP = "{_target_: respike.data.augment.random_crop, _partial_: true, padding: 2}"
OVERRIDES = [  # dropout, augmentation, an optimizer and a schedule with a state, the best of the epochs
    "experiment=diehl_fc", "recipe=custom", "recipe.epochs=3", "recipe.batch_size=50", "recipe.dropout=0.5", "recipe.keep=best",
    f"recipe.transform={CROP}", "data.val_size=100", "data.train_size=300", "+data.dataset.download=false", "logger=none",
    "trainer.enable_progress_bar=false",
]  # fmt: skip


def config(folder: Path) -> DictConfig:
    """The run in this folder."""
    return compose_run([*OVERRIDES, f"paths.outputs={folder}", "paths.data=none", f"paths.run={folder}"])


def train(folder: Path, data: ImageDataModule) -> None:
    """Train, or continue; writes folder/weights.pt."""
    cfg = config(folder)
    pl.seed_everything(cfg.seed, verbose=False)
    module = instantiate(cfg.lit, net=make_network(cfg.model))
    stage = fit_once(cfg, instantiate(cfg.trainer, logger=False), module, data)
    history = [line.split(",")[:3] for line in (stage.folder / "history.csv").read_text().splitlines()]
    files = sorted(path.name for path in stage.folder.iterdir())
    torch.save((module.net.state_dict(), history, files), folder / "weights.pt")


def process(folder: Path, data: ImageDataModule, seconds: float | None = None) -> bool:
    """Train in a process of its own, killed after so many seconds; returns whether it ended by itself."""
    child = os.fork()
    if child == 0:
        try:
            train(folder, data)
        finally:
            os._exit(0 if (folder / "weights.pt").is_file() else 1)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), status
    return status == 0


def main(folder: Path, kills: int, seed: int) -> None:
    """Kill so many times, over as many trainings as it takes."""
    torch.set_num_threads(1)  # no pool of threads, which a fork would not copy
    quiet_libraries()
    draw = random.Random(seed)
    (folder / "whole").mkdir(parents=True)
    data = instantiate(config(folder).data)
    data.setup()
    start = time.perf_counter()
    process(folder / "whole", data)
    seconds = time.perf_counter() - start
    weights, *others = torch.load(folder / "whole" / "weights.pt")
    killed = trainings = 0
    while killed < kills or trainings == 0:
        trainings += 1
        (folder / "killed").mkdir()
        while killed < kills and not process(folder / "killed", data, draw.uniform(0, seconds)):
            killed += 1
        process(folder / "killed", data)
        again, *others_again = torch.load(folder / "killed" / "weights.pt")
        assert all(torch.equal(value, again[name]) for name, value in weights.items())
        assert others == others_again
        shutil.rmtree(folder / "killed")
    print(f"{killed} kills of {trainings} trainings")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
