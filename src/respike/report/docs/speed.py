"""Tables of the benchmark: outputs/reference/bench."""

from typing import Any

import pandas as pd

from respike.report.columns import count, points
from respike.report.docs.reference import Reference, bullets, sentence
from respike.report.summary import listed
from respike.report.tables import markdown_table

NETWORKS = ("resnet20", "vgg16", "resnet18")  # folders of the benchmark, one run each
EVENTS, AUTO = "ours, compiled events", "ours, fastest backend"  # of `auto`, which ran the events in all of these runs


def speed(reference: Reference) -> str:
    """Compiled simulation against a plain loop, and against SpikingJelly and the bare products."""
    rows = reference.bench()
    timed = rows[rows.part == "simulate"].set_index(["name", "network"])["seconds_per_10000"]
    ours, loop = timed[EVENTS], timed["plain PyTorch loop"]
    said = listed(f"{ours[network]:.3g} s ({network})" for network in ours.index)
    bare, large = _network(reference, "resnet20")
    seconds = large.seconds_per_10000
    peer = _peers(seconds).min()
    return sentence(
        f"10,000 MNIST images take {said}, against {listed(f'{loop[network]:.3g} s' for network in ours.index)} for a plain "
        f"PyTorch loop. A ResNet-20 for CIFAR-10, {bare.steps:.0f} steps, takes {seconds[EVENTS] / 10:.3g} ms per image: "
        f"{seconds[EVENTS] / peer:.2f} of the time of SpikingJelly's conversion in its fastest mode, and "
        f"{seconds[EVENTS] / bare.fp32:.2f} of that of the bare products in fp32."
    )


def simulation(reference: Reference) -> str:
    """Seconds per 10,000 images of every contender, and of the bare products."""
    rows = reference.bench()
    floors = rows[rows.part == "floor"].set_index("network")
    timed = rows[rows.part == "simulate"].pivot(index="name", columns="network", values="seconds_per_10000")
    timed = timed.loc[list(dict.fromkeys(rows[rows.part == "simulate"].name)), floors.index]
    for dtype in ("fp32", "bf16"):
        timed.loc[f"bare products, {dtype}"] = floors[dtype]
    lines = [
        [name, *(f"{seconds:.3g}" for seconds in line)]
        for name, line in zip(timed.index, timed.to_numpy(), strict=True)
    ]
    return markdown_table(["seconds", *timed.columns], lines)


def networks(reference: Reference) -> str:
    """Milliseconds per image of the networks of bench/cnn.py, their share of the bare fp32 products, and the accuracy."""
    columns, titles = [], []
    for name in NETWORKS:
        bare, timed = _network(reference, name)
        cells = {
            row: f"{count(seconds / 10)} ({seconds / bare['fp32']:.2f})"
            for row, seconds in timed.seconds_per_10000.drop(AUTO, errors="ignore").items()
        }
        for row, accuracy in timed.accuracy.drop(AUTO, errors="ignore").dropna().items():
            cells[row] += f", {100 * accuracy:.1f} %"
        for dtype in ("fp32", "bf16"):
            cells[f"bare products, {dtype}"] = f"{bare[dtype] / 10:.3g} ({bare[dtype] / bare['fp32']:.2f})"
        columns.append(cells)
        titles.append(bare["title"].replace(", random weights", ""))
    lines = [[row, *(cells.get(row, "–") for cells in columns)] for row in columns[0]]
    return markdown_table(["ms per image (of bare fp32 products)", *titles], lines)


def _network(reference: Reference, name: str) -> tuple[Any, Any]:
    """The row of the bare products, and the timed rows by name."""
    rows = reference.bench(name)
    return rows[rows.part == "forwards"].iloc[0], rows[rows.part == "cnn"].set_index("name")


def _peers(seconds: Any) -> Any:
    """The times of SpikingJelly's modes on the CPU, where ours ran, by name."""
    return seconds[[name for name in seconds.index if name.startswith("SpikingJelly") and "GPU" not in name]]


def against_peers(reference: Reference) -> str:
    """The compiled simulation of those networks beside the bare products and SpikingJelly."""
    said = []
    for name in NETWORKS:
        bare, timed = _network(reference, name)
        seconds = timed.seconds_per_10000
        peers = _peers(seconds)
        peer = peers.idxmin()
        said.append(
            f"{bare['title'].split(',')[0]}: {seconds[EVENTS] / bare['fp32']:.2f} of the time of the bare fp32 products, "
            f"{seconds[EVENTS] / peers[peer]:.2f} of SpikingJelly's fastest mode ({peer.removeprefix('SpikingJelly, ')})."
        )
        if timed.accuracy.isna().all():
            said[-1] += (
                f" Correlation of the outputs with the ReLU network's: ours {timed.correlation[EVENTS]:.2f}, SpikingJelly's "
                f"{timed.correlation[peers.index].max():.2f} at best."
            )
    return bullets(said)


def cost_of_steps(reference: Reference) -> str:
    """Milliseconds per image of the compiled simulation against the number of steps."""
    curves = pd.concat(map(reference.bench, NETWORKS))
    curves = curves[curves.part == "cost against steps"]
    curves = curves.assign(ms=1000 * curves.seconds / curves.images)
    table = curves.pivot_table(index="workload", columns="steps", values="ms", sort=False).sort_index(axis=1)
    lines = [
        [str(name), *("–" if pd.isna(ms) else f"{ms:.3g}" for ms in row)]
        for name, row in zip(table.index, table.to_numpy(), strict=True)
    ]
    return markdown_table(["ms per image", *(f"{steps:.0f} steps" for steps in table.columns)], lines)


def agreement(reference: Reference) -> str:
    """The same input spikes on the grid and in floating point."""
    rows = reference.bench()
    pairs = rows[(rows.part == "agreement") & rows.name.str.contains("compiled events / ours, float")]
    heads = [
        "network",
        "grid against",
        "images",
        "predictions at single steps",
        "final counts",
        "final accuracy (points)",
    ]
    lines = [
        [row["network"], row["name"].rpartition(", ")[2], count(row["images"]), f"{100 * row['predictions_differ']:.3f} %",
         f"{100 * row['counts_differ']:.1f} %", points(row["accuracy_gap"])]
        for _, row in pairs.iterrows()
    ]  # fmt: skip
    return markdown_table(heads, lines)


def training_step(reference: Reference) -> str:
    """Training steps of the full-width ResNet-19."""
    rows = reference.bench("direct")
    rows = rows[rows.batch == rows.batch.min()]  # the quarter of the width runs in larger batches
    lines = [
        [row["name"], row.arithmetic, f"{1000 / row.images_per_second:.1f}", f"{row.mib_per_image:.1f}"]
        for _, row in rows.iterrows()
    ]
    return markdown_table(["", "arithmetic", "ms per image", "MiB per image"], lines)
