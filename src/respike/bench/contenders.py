"""The rows of the benchmark. To add one, add an object to a list."""

from dataclasses import dataclass, field
from typing import Any

BATCHES = (20, 100, 300, 1000)  # images at a time that every peer is tried with


@dataclass(frozen=True)
class Contender:
    """One row of simulated images.

    make: "module.function" of a peer, (snn, steps) -> Simulator; or, with options, of ours, (snn, settings, **options)
    -> (images -> SpikeRecord). batches: sizes that are tried, best taken; none where it cuts the work itself.
    fires: at (">=") or above (">") the threshold; arithmetic: what its sums are made of; works: names of the works it
    knows, None for all.
    """

    name: str
    make: str
    arithmetic: str = "float32"
    fires: str = ">="
    batches: tuple[int, ...] = BATCHES
    options: dict[str, Any] | None = None
    works: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Training:
    """One row of trained images. train: "module.function", (cfg, batches, warm_up, **options) -> measures."""

    name: str
    train: str
    arithmetic: str = "float32"
    options: dict[str, Any] = field(default_factory=dict)
    works: tuple[str, ...] | None = None


OURS = "respike.bench.ours.simulator"
PEERS = "respike.bench.peers"
CONTENDERS = [
    Contender("ours, compiled events", OURS, "16-bit grid, exact", batches=(), options={"backend": "events"}),
    Contender("ours, Triton", OURS, "16-bit grid, exact", batches=(), options={"backend": "triton", "device": "cuda"}),
    Contender("ours, plain torch", OURS, "16-bit grid, exact", batches=(), options={"backend": "torch"}),
    Contender("ours, float32", OURS, batches=(), options={"weight_bits": None}),
    Contender("ours, float64", OURS, "float64", batches=(), options={"weight_bits": None, "double": True}),
    Contender("plain PyTorch loop", f"{PEERS}.plain.loop"),
    Contender("SpikingJelly, single step", f"{PEERS}.spikingjelly.single_step"),
    Contender("SpikingJelly, multi step", f"{PEERS}.spikingjelly.multi_step"),
    Contender("snnTorch", f"{PEERS}.snntorch.loop", fires=">"),
    Contender("Norse", f"{PEERS}.norse.loop", fires=">"),
]
TRAININGS = [
    Training("ours, Lightning", "respike.bench.training.lightning"),
    Training(
        "ours, Lightning, bf16-mixed",
        "respike.bench.training.lightning",
        "bfloat16 products",
        options={"precision": "bf16-mixed"},
    ),
    Training("plain PyTorch loop", "respike.bench.training.loop"),
]
DIRECT = "respike.bench.direct"
DIRECT_WORKS = {  # of the directly trained network: title -> arguments of every row
    "ResNet-19, T = 2, 28x28": {"width_mult": 1.0, "batch": 16},
    "ResNet-19 of a quarter of the width, T = 2, 28x28": {"width_mult": 0.25, "batch": 64},
}
DIRECT_TRAININGS = [
    Training("ours, fused, bf16", f"{DIRECT}.ours", "bfloat16 products", {"backend": "auto", "bf16": True}),
    Training("ours, fused", f"{DIRECT}.ours", options={"backend": "auto"}),
    Training("ours, plain modules, bf16", f"{DIRECT}.ours", "bfloat16 products", {"backend": "torch", "bf16": True}),
    Training("ours, plain modules", f"{DIRECT}.ours", options={"backend": "torch"}),
    Training("SpikingJelly, multi step, bf16", f"{DIRECT}.spikingjelly", "bfloat16 products", {"bf16": True}),
    Training("SpikingJelly, multi step", f"{DIRECT}.spikingjelly"),
]


def named(rows: list, words: list[str] | None) -> list:
    """Those rows whose names contain one of the words, in any case; all without words."""
    return [row for row in rows if not words or any(word.lower() in row.name.lower() for word in words)]
