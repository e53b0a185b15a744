"""What one run of the benchmark does: how much of everything."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

WORKS = ("diehl_fc", "diehl_cnn")


@dataclass(frozen=True)
class Plan:
    """One run.

    out: where the results go; outputs: where runs and trainings lie; images: test images, at most; repeats: timed passes,
    at most; budget: seconds of timed passes per row (the quickest peer and the compiled simulation get all passes);
    limit: seconds until a row is stopped; search: images with which batch sizes are tried; threads: of everybody;
    only: words, one of which a row's name holds (all rows without); works: names of experiments; exact: of
    those of the exact mapping.
    floor_rows: images times steps of the floor's products; cost_images, cost_steps, cost_sample: the points of the cost
    plots, and the images of the second; train_batches, warm_up: batches of a training, and those not timed;
    direct_steps: timed steps of the directly trained network. overrides: Hydra's, of every training; reduced: why the
    numbers are not to be quoted, empty where they are.
    """

    out: Path = Path("outputs/bench")
    outputs: Path = Path("outputs")
    images: int = 10_000
    repeats: int = 3
    budget: float = 15.0
    limit: float = 300.0
    search: int = 1000
    threads: int = field(default_factory=torch.get_num_threads)
    only: tuple[str, ...] = ()
    works: tuple[str, ...] = WORKS
    exact: tuple[str, ...] = ("exact_fc", "exact_lenet", "exact_vgg_mnist")
    floor_rows: int = 8000
    cost_images: tuple[int, ...] = (100, 300, 1000, 3000, 10_000, 30_000, 100_000)
    cost_steps: tuple[int, ...] = (10, 20, 40, 80, 160, 320)
    cost_sample: int = 1000
    train_batches: int = 300
    warm_up: int = 20
    direct_steps: int = 8
    overrides: tuple[str, ...] = ()
    reduced: str = ""


QUICK = {  # the reduced data of PRESET=quick, whose trainings are then shared
    "images": 200, "repeats": 1, "budget": 5.0, "search": 100, "floor_rows": 500, "cost_images": (100, 300, 1000),
    "cost_steps": (10, 20, 40), "cost_sample": 100, "train_batches": 20, "warm_up": 5, "direct_steps": 2,
    "overrides": ("data.train_size=4000", "data.test_size=1000"), "reduced": "--quick: few images, one pass",
}  # fmt: skip
