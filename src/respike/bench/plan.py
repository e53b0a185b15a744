"""What one run of the benchmark measures: how much, and which rows. To add a row, add an object to a list."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch

WORKLOADS = ("diehl_fc", "diehl_cnn")
BATCHES = (20, 100, 300, 1000)  # batch sizes that every peer is tried with


@dataclass(frozen=True)
class Cnn:
    """A network of bench/cnn.py.

    batches: sizes that SpikingJelly and the bare products are tried with. images: timed images. calibration: training images
    of the conversion. cost: images of the curve over steps, 0 for none.
    """

    batches: tuple[int, ...]
    images: int
    calibration: int
    cost: int = 0


CNNS = {
    "resnet20": Cnn((5, 25, 100), images=200, calibration=200, cost=50),
    "vgg16": Cnn((2, 10, 20), images=20, calibration=100),
    "resnet18": Cnn((1, 4), images=4, calibration=60),
}
CNN_STEPS = 32
CNN_BUDGET = 4  # times the budget of other rows: few images, which all are timed
PARTS = ("rate", "cost", "training", "exact", "direct", "cnn", "gpu", *CNNS)  # words of --only beside names of rows


@dataclass(frozen=True)
class Plan:
    """The amounts of one run.

    out: folder of the results. outputs: folder of runs and finished trainings.
    images: largest number of test images. repeats: largest number of timed passes. budget: seconds of timed passes per row;
    the fastest peer and the compiled simulation get all passes. limit: seconds after which a row is stopped.
    search: images used to find the best batch size. threads: of every row. only: rows to measure, by words of their names or by
    parts (see `includes`); empty for all. workloads: experiments of the rate-coded rows. exact: those of the exact mapping.
    cnns: names in CNNS. data: folder with CIFAR10 and pretrained, for them.
    floor_rows: images times steps in the products of the floor. cost_images, cost_steps: points of the cost curves;
    cost_sample: images of the second curve. train_batches, warm_up: timed and untimed batches of a training.
    direct_steps: timed training steps of the directly trained network. overrides: Hydra overrides of every training.
    reduced: why the numbers must not be quoted; empty for a full run.
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
    workloads: tuple[str, ...] = WORKLOADS
    exact: tuple[str, ...] = ("exact_fc", "exact_lenet", "exact_vgg_mnist")
    cnns: tuple[str, ...] = tuple(CNNS)
    data: Path = field(default_factory=lambda: Path(os.environ.get("DATA_DIR", "data")))
    floor_rows: int = 8000
    cost_images: tuple[int, ...] = (100, 300, 1000, 3000, 10_000, 30_000, 100_000)
    cost_steps: tuple[int, ...] = (10, 32, 100, 320, 1000)
    cost_sample: int = 1000
    train_batches: int = 300
    warm_up: int = 20
    direct_steps: int = 8
    overrides: tuple[str, ...] = ()
    reduced: str = ""

    def includes(self, part: str) -> bool:
        """Whether a part is to be measured: "rate" with its parts "cost" and "training", "exact", "direct", or a name in CNNS.

        "cnn" asks for all in CNNS, "gpu" for the rows on a GPU of these and of "rate". Any other word selects rows by
        their names: those of CNNS if any of them is asked for, else the rate-coded ones.
        """
        only = set(self.only)
        if part == "rate":
            named = only - set(PARTS) and not only & {"cnn", *CNNS}
            alone = {"cost"} if not only & {"cnn", *CNNS} else set()  # beside these, it is their cost
            return not only or bool(named or only & {"rate", "training", "gpu", *alone})
        if part in CNNS:
            return not only or bool(only & {part, "cnn", "gpu"})
        return not only or part in only or (part in ("cost", "training") and "rate" in only)

    @property
    def times_simulations(self) -> bool:
        """Whether the contenders of "rate" are measured: not if only its parts "cost" and "training" are asked for."""
        return not self.only or not set(self.only) <= set(PARTS) - {"rate", "gpu"}

    def contenders(self, rows: "Sequence[Contender]") -> "list[Contender]":
        """Those of the rows that are to be measured; the names of rows on a GPU contain "GPU"."""
        words = [word for word in self.only if word == "gpu" or word not in PARTS]
        return named(rows, () if "rate" in self.only else words)


QUICK: dict[str, Any] = {  # the data of `make reproduce-paper PRESET=quick`, so that both use the same trainings
    "images": 200, "repeats": 1, "budget": 5.0, "search": 100, "floor_rows": 500, "cost_images": (100, 300, 1000),
    "cost_steps": (10, 32), "cost_sample": 100, "train_batches": 20, "warm_up": 5, "direct_steps": 2,
    "overrides": ("data.train_size=4000", "data.test_size=1000"), "reduced": "--quick: few images, one pass",
}  # fmt: skip


@dataclass(frozen=True)
class Contender:
    """A row of simulated images.

    make: path of a function. Of a peer: (snn, steps) -> Simulator. Of this package, marked by `options`:
    (snn, settings, **options) -> (images -> SpikeRecord). Of a peer that `converts` the ReLU network itself:
    (workload, **options) -> (images -> summed output).
    arithmetic: number format of the sums. fires: at (">=") or above (">") the threshold. batches: batch sizes to try; empty
    if the simulation chooses its own.
    """

    name: str
    make: str
    arithmetic: str = "float32"
    fires: str = ">="
    batches: tuple[int, ...] = BATCHES
    options: dict[str, Any] | None = None
    converts: bool = False


@dataclass(frozen=True)
class Training:
    """A row of training. train: path of a function that trains and returns measurements; options: more arguments of it."""

    name: str
    train: str
    arithmetic: str = "float32"
    options: dict[str, Any] = field(default_factory=dict)


OURS = "respike.bench.rate.our_simulator"
PEERS = "respike.bench.peers"
CONTENDERS = [
    Contender("ours, compiled events", OURS, "16-bit grid, exact", batches=(), options={"backend": "events"}),
    Contender(
        "ours, Triton on a GPU", OURS, "16-bit grid, exact", batches=(), options={"backend": "triton", "device": "cuda"}
    ),
    Contender("ours, plain torch", OURS, "16-bit grid, exact", batches=(), options={"backend": "torch"}),
    Contender("ours, float32", OURS, batches=(), options={"weight_bits": None}),
    Contender("ours, float64", OURS, "float64", batches=(), options={"weight_bits": None, "double": True}),
    Contender("plain PyTorch loop", f"{PEERS}.plain.loop"),
    Contender("SpikingJelly, single step", f"{PEERS}.spikingjelly.single_step"),
    Contender("SpikingJelly, multi step", f"{PEERS}.spikingjelly.multi_step"),
    Contender("snnTorch", f"{PEERS}.snntorch.loop", fires=">"),
    Contender("Norse", f"{PEERS}.norse.loop", fires=">"),
]

CONVERTED = f"{PEERS}.spikingjelly.converted"
CNN_CONTENDERS = [
    Contender("ours, fastest backend", OURS, "16-bit grid, exact", batches=(), options={}),
    Contender("ours, compiled events", OURS, "16-bit grid, exact", batches=(), options={"backend": "events"}),
    Contender("ours, Triton on a GPU", OURS, "16-bit grid, exact", batches=(), options={"backend": "triton", "device": "cuda"}),
    Contender("ours, plain torch", OURS, "16-bit grid, exact", batches=(), options={"backend": "torch"}),
    Contender("ours, float32", OURS, batches=(), options={"weight_bits": None}),
    *(
        Contender(
            f"SpikingJelly, {mode} step{', bf16' if bf16 else ''}{' on a GPU' if device == 'cuda' else ''}", CONVERTED,
            "bfloat16" if bf16 else "float32", options={"step_mode": mode[0], "bf16": bf16, "device": device}, converts=True,
        )
        for device in ("cpu", "cuda")
        for mode in ("single", "multi")
        for bf16 in (False, True)
        if device == "cpu" or mode == "multi"
    ),
]  # fmt: skip

BF16 = "bfloat16 products"
LIGHTNING = "respike.bench.training.lightning"
TRAININGS = [  # arguments: experiment, outputs, overrides, batches, warm_up
    Training("ours, Lightning", LIGHTNING),
    Training("ours, Lightning, bf16-mixed", LIGHTNING, BF16, {"precision": "bf16-mixed"}),
    Training("plain PyTorch loop", "respike.bench.training.loop"),
]

DIRECT_WORKLOADS = {  # of the directly trained network: title -> arguments of every row
    "ResNet-19, T = 2, 28x28": {"width_mult": 1.0, "batch": 16},
    "ResNet-19 of a quarter of the width, T = 2, 28x28": {"width_mult": 0.25, "batch": 64},
}
DIRECT = "respike.bench.training.our_resnet19"
DIRECT_PEER = "respike.bench.training.spikingjelly_resnet19"
DIRECT_TRAININGS = [  # arguments: width_mult, batch, timed
    Training("ours, fused, bf16", DIRECT, BF16, {"backend": "auto", "bf16": True}),
    Training("ours, fused", DIRECT, options={"backend": "auto"}),
    Training("ours, plain modules, bf16", DIRECT, BF16, {"backend": "torch", "bf16": True}),
    Training("ours, plain modules", DIRECT, options={"backend": "torch"}),
    Training("SpikingJelly, multi step, bf16", DIRECT_PEER, BF16, {"bf16": True}),
    Training("SpikingJelly, multi step", DIRECT_PEER),
]

EXACT_TITLES = {
    "exact_fc": "Exact mapping, FC 784-600-10",
    "exact_lenet": "Exact mapping, LeNet5",
    "exact_vgg_mnist": "Exact mapping, VGG of 16 layers at half its width, one epoch on 4,000 images",
}
EXACT_OVERRIDES = {"exact_vgg_mnist": ("model.width=0.5", "data.train_size=4000", "recipe.epochs=1")}
EXACT_ROWS: dict[str, dict[str, Any]] = {  # name -> arguments of respike.bench.exact.measure
    "ReLU network": {"relu": True},
    "ours, certified": {},
    "ours, closed form, unproved": {"evaluator": "closed"},
    "ours, everything sorted, compiled": {"evaluator": "sorted"},
    "everything sorted, PyTorch, as published": {"evaluator": "sorted", "plain": True},
}

Named = TypeVar("Named", Contender, Training)


def named(rows: Sequence[Named], words: Sequence[str]) -> list[Named]:
    """The rows whose name contains one of the words, in upper or lower case; all rows if there are no words."""
    return [row for row in rows if not words or any(word.lower() in row.name.lower() for word in words)]
