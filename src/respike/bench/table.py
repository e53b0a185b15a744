"""The rows of the benchmark as bench.csv for programs and bench.md for people."""

from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import Any, NamedTuple

import pandas as pd

from respike.bench.plan import CNN_STEPS
from respike.report.columns import count
from respike.report.tables import markdown_table, markdown_text
from respike.system.provenance import git_commit

COLUMNS = [
    "part", "workload", "title", "name", "arithmetic", "fires", "images", "steps", "batch", "runs", "seconds", "seconds_min",
    "seconds_max", "seconds_per_10000", "images_per_second", "accuracy", "correlation", "peak_mib", "share_fp32", "share_bf16",
    "macs", "fp32", "bf16", "predictions_differ", "counts_differ", "accuracy_gap", "certified", "mib_per_image", "allocator",
    "reason", "reduced",
]  # fmt: skip
PACKAGES = ("torch", "pytorch-lightning", "spikingjelly", "snntorch", "norse", "numpy")
INTRO = """\
The rows of a table simulate or train the same architecture on the same images, or on the first of them, on the same machine in
one run, with the same number of threads. **Peak memory** is that of the row's own process, including libraries, network and
images. The allocator has the same settings in every process{allocator}.
"""
RATES = """\
Rate-coded networks: up to {images} test images through the same data-normalized spiking network. Input spikes are drawn at each
step with the pixel as their probability (1000 Hz, 1 ms). Neurons integrate without leak, fire at potential 1 and are reset to
0. Average pools are neurons too.

- **s per 10,000**: median wall time of the passes, scaled to 10,000 images. It includes drawing input spikes, and excludes
  a warm-up, loading and building. *Passes*: minimum and maximum, if there are several. The fastest peer and the compiled
  simulation get all passes. A row that is too slow for its time budget gets fewer passes, then fewer images.
- **Batch**: each peer runs at the best of {batches} images, found beforehand on up to {search} images. Our simulation splits
  its work itself.
- **of bare fp32, bf16**: this time over that of the bare products of all steps (`Linear`, `Conv2d`, nothing else). A
  simulation that computes every product stays above 1; one that follows the spikes can be below.
- **Fires**: at the threshold (≥) or only above it (>), as the library does. With pools these are different networks.
- **Accuracy** is given where all images were timed. Peers draw their own random input, so accuracies differ by chance.
"""
CNN = """\
Networks of common size: {steps} steps, the same images for every row. Inputs are constant currents, neurons are reset by
subtraction and start at half a threshold, scales are 0.999-quantiles per channel, the class is read from the summed output.
SpikingJelly converts the ReLU network itself (`RateCodingRecipe(mode="99.9%", channel_wise=True, half_threshold=True)`). Its
max-pools take the maximum of the spikes of one step, ours that of the counts: with max-pools these are different networks.

- **ms per image**: median wall time of the passes; *passes* has minimum and maximum.
- **of bare fp32, bf16**: this time over that of the bare products, {steps} forward passes of the ReLU network with folded norms
  at its best batch and memory layout. Below 1 a row is faster than a simulation that computes all of its products could be.
- **Correlation** of the summed output with the ReLU network's, centred per class. Random weights have no accuracy.
- **Batch**: SpikingJelly and the bare products run at the best of several batch sizes.
"""


class Facts(NamedTuple):
    """What bench.md says about the run. batches: batch sizes that were tried; search: images of that search."""

    machine: str
    batches: Sequence[int]
    search: int


def facts_of(processor: str, batches: Sequence[int], search: int) -> Facts:
    """The facts of a run on this machine, with the versions of the packages and the commit."""
    versions = ", ".join(f"{name} {version}" for name in PACKAGES if (version := _version(name)))
    return Facts(f"{processor}. {versions}. Commit {git_commit()}.", batches, search)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def to_frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One line per row, with every column of COLUMNS; missing values are None or NaN."""
    frame = pd.DataFrame(rows, columns=COLUMNS)
    return frame.assign(reason=frame.reason.astype(object).where(frame.reason.astype(bool), None))


def accuracies_of_all_images(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame without the accuracies of rows that were too slow for all images: those are of the first images alone."""
    most = frame.groupby(["title", "part"], dropna=False).images.transform("max")
    return frame.assign(accuracy=frame.accuracy.where((frame.images == most) | ~frame.part.isin(["simulate", "exact"])))


def markdown(frame: pd.DataFrame, facts: Facts) -> str:
    """The text of bench.md."""
    images = frame[frame.part == "simulate"].images.max()
    frame = accuracies_of_all_images(frame)
    parts = ["# Benchmark"]
    if reduced := sorted(set(frame.reduced.dropna()) - {""}):
        parts.append(f"**Reduced, not to be quoted:** {markdown_text('; '.join(reduced))}.")
    allocator = "".join(f": {markdown_text(name)}" for name in frame.allocator.dropna().unique())
    parts += [facts.machine, INTRO.format(allocator=allocator)]
    if pd.notna(images):
        batches = ", ".join(map(str, facts.batches))
        parts.append(RATES.format(images=f"{images:,.0f}", batches=batches, search=f"{facts.search:,}"))
    if (frame.part == "cnn").any():
        parts.append(CNN.format(steps=CNN_STEPS))
    for title, rows in frame.groupby("title", sort=False):
        parts.append(f"## {markdown_text(str(title))}")
        for part, heading, columns in SECTIONS:
            chosen = rows[rows.part == part]
            if len(chosen):
                parts += [f"### {heading}"] if heading else []
                parts += _tables(chosen, columns)
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _tables(rows: pd.DataFrame, columns: Mapping[str, Callable[[Any], str]]) -> list[str]:
    """A table of the rows that were measured, and a line for each reason why others were not."""
    lines = []
    row: Any  # the type of itertuples does not know the columns
    for row in rows[rows.reason.isna()].itertuples():
        lines.append([row.name, *(cell(row) for cell in columns.values())])
    missing = rows.dropna(subset="reason").groupby("reason", sort=False)["name"]
    said = [
        f"Not measured ({markdown_text(str(reason))}): {markdown_text('; '.join(names))}." for reason, names in missing
    ]
    return ([markdown_table(["", *columns], lines)] if lines else []) + said


def _seconds(value: float) -> str:
    return count(value) if value < 100 else f"{value:.0f}"


def _percent(value: float, digits: int) -> str:
    return f"{100 * value:.{digits}f} %" if pd.notna(value) else "–"


def _passes(row: Any) -> str:
    if row.runs == 1:
        return "1"
    scale = row.seconds_per_10000 / row.seconds
    return f"{row.runs:.0f}: {count(row.seconds_min * scale)} to {count(row.seconds_max * scale)} s"


def _ms_per_image(seconds: float, row: Any) -> str:
    return f"{1000 * seconds / row.images:.1f}"


def _milliseconds(row: Any) -> str:
    return count(row.seconds_per_10000 / 10)


def _cnn_passes(row: Any) -> str:
    return f"{row.runs:.0f}: {_ms_per_image(row.seconds_min, row)} to {_ms_per_image(row.seconds_max, row)}"


def _times_bare(share: float) -> str:
    return f"{1 / share:.2f}" if pd.notna(share) else "–"


def _batch(row: Any) -> str:
    return f"{row.batch:.0f}" if pd.notna(row.batch) else "own"


Cells = dict[str, Callable[[Any], str]]  # heading -> text of a row
IMAGES: Cells = {"images": lambda row: f"{row.images:,.0f}"}
TIME: Cells = {"s per 10,000": lambda row: _seconds(row.seconds_per_10000), "passes": _passes}
ACCURACY: Cells = {"accuracy": lambda row: _percent(row.accuracy, 2)}
BATCH: Cells = {"batch": _batch}
ARITHMETIC: Cells = {"arithmetic": lambda row: row.arithmetic}
MEMORY: Cells = {"peak memory": lambda row: f"{row.peak_mib:,.0f} MiB"}
COST: Cells = {
    "s": lambda row: _seconds(row.seconds),
    "ms per image": lambda row: count(1000 * row.seconds / row.images),
}
SECTIONS: list[tuple[str, str, Cells]] = [
    ("simulate", "", TIME | IMAGES | ACCURACY | BATCH | ARITHMETIC | {
        "fires": lambda row: {">=": "≥", ">": ">"}[row.fires],
        "of bare fp32": lambda row: _times_bare(row.share_fp32),
        "of bare bf16": lambda row: _times_bare(row.share_bf16),
    } | MEMORY),
    ("cnn", "", {"ms per image": _milliseconds, "passes": _cnn_passes} | IMAGES | ACCURACY | {
        "correlation": lambda row: f"{row.correlation:.3f}",
        "of bare fp32": lambda row: _times_bare(row.share_fp32),
        "of bare bf16": lambda row: _times_bare(row.share_bf16),
    } | BATCH | ARITHMETIC | MEMORY),
    ("forwards", "Bare products of all steps, ms per image", {
        "fp32": lambda row: count(row.fp32 / 10),
        "bf16": lambda row: count(row.bf16 / 10),
        "multiply-accumulates per image": lambda row: f"{row.macs * row.steps / 1e6:,.1f} million",
    }),
    ("exact", "", ARITHMETIC | TIME | IMAGES | ACCURACY | {
        "proved by the bound": lambda row: _percent(row.certified, 3),
    } | MEMORY),
    ("floor", "Bare products of all steps, s per 10,000 images", {
        "fp32": lambda row: _seconds(row.fp32),
        "bf16": lambda row: _seconds(row.bf16),
        "multiply-accumulates per image": lambda row: f"{row.macs * row.steps / 1e6:,.1f} million",
    }),
    ("agreement", "The same input spikes in different arithmetic", IMAGES | {
        "predictions that differ, all steps": lambda row: _percent(row.predictions_differ, 4),
        "final counts that differ": lambda row: _percent(row.counts_differ, 4),
        "accuracy gap, points": lambda row: f"{100 * row.accuracy_gap + 0.0:+.2f}",
    }),
    ("train", "Training", {"images per second": lambda row: f"{row.images_per_second:,.0f}"} | IMAGES | BATCH | {
        "test accuracy after them": lambda row: _percent(row.accuracy, 2),
    } | ARITHMETIC | MEMORY),
    ("direct", "Training steps of one batch, Adam included", {
        "ms per image": lambda row: f"{1000 / row.images_per_second:.1f}",
        "minimum to maximum": lambda row: f"{_ms_per_image(row.seconds_min, row)} to {_ms_per_image(row.seconds_max, row)}",
        "steps timed": lambda row: f"{row.runs:.0f}",
    } | BATCH | ARITHMETIC | {"memory per image": lambda row: f"{row.mib_per_image:.1f} MiB"} | MEMORY),
    ("cost against images", "Ours against the number of images", IMAGES | COST),
    ("cost against steps", "Ours against the number of steps", {"steps": lambda row: f"{row.steps:.0f}"} | IMAGES | COST),
]  # fmt: skip
