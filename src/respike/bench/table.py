"""The benchmark's rows as bench.csv for machines and bench.md for people."""

import csv
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from respike.report.tables import markdown_text
from respike.system.provenance import git_commit

Row = dict[str, Any]
COLUMNS = (
    "part", "work", "name", "arithmetic", "fires", "images", "steps", "batch", "runs", "seconds", "seconds_min",
    "seconds_max", "seconds_per_10000", "images_per_second", "accuracy", "peak_mib", "share_fp32", "share_bf16", "macs",
    "fp32", "bf16", "predictions_differ", "counts_differ", "accuracy_gap", "certified", "mib_per_image", "reason",
    "reduced",
)  # fmt: skip
PACKAGES = ("torch", "pytorch-lightning", "spikingjelly", "snntorch", "norse", "numpy")
INTRO = """\
Every row does the same work on the same machine in one run, with the same threads. **Peak memory** is that of the row's own
process, libraries, network and images included.
"""
RATES = """\
Rate-coded networks: {images} test images, at most, through the same data-normalized spiking network, input spikes drawn anew
at each step with the pixel as their probability (1000 Hz, 1 ms). Neurons integrate without leak, fire at potential 1 and start
again at 0; average pools are neurons too.

- **s per 10,000** is the median wall time of the passes (*passes*: least and most when there are several) scaled to 10,000
  images, input spikes included, after a warm-up; loading and building are not in it. The quickest
  peer and the compiled simulation get all passes; a row too slow for its share of the run gets fewer, then fewer images,
  as its columns say.
- **Batch**: every peer runs at the best of {batches} images, found on {search} images before; ours cuts its work itself.
- **of fp32, of bf16 floor**: time of the bare products of all steps (`Linear`, `Conv2d`; nothing else) over the time of the
  row. Who computes every product cannot exceed 100 %; who follows the spikes can.
- **Fires** at the threshold (≥) or only above it (>), as the library does; with pools that is not the same network.
- Peers draw their own random input, so that accuracies differ by chance: two standard errors are {noise:.2f} points.
"""


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """One line per row, all parts in one file; accuracies and shares are fractions, unknowns empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)


def _cell(value: Any) -> Any:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else value


def markdown(rows: Sequence[Row], facts: dict[str, Any]) -> str:
    """bench.md. facts: machine, batches, search, as `facts_of` gives them."""
    images = max((row["images"] for row in rows if row["part"] == "simulate" and "images" in row), default=0)
    parts = ["# Benchmark", facts["machine"], INTRO]
    if images:
        parts.append(RATES.format(**facts, images=f"{images:,}", noise=200 * (0.99 * 0.01 / images) ** 0.5))
    reduced = sorted({row["reduced"] for row in rows if row.get("reduced")})
    if reduced:
        parts.insert(1, f"**Reduced, not to be quoted:** {markdown_text('; '.join(reduced))}.")
    for title in dict.fromkeys(row["title"] for row in rows):
        parts += _work(title, [row for row in rows if row["title"] == title])
    return "\n\n".join(part.strip() for part in parts) + "\n"


def facts_of(processor: str, batches: Sequence[int], search: int) -> dict[str, Any]:
    """What bench.md says of the run itself."""
    versions = ", ".join(f"{name} {version}" for name in PACKAGES if (version := _version(name)))
    return {
        "machine": f"{processor}. {versions}. Commit {git_commit()}.",
        "batches": ", ".join(map(str, batches)),
        "search": f"{search:,}",
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _work(title: str, rows: Sequence[Row]) -> list[str]:
    sections = [f"## {markdown_text(title)}"]
    for part, heading, columns in SECTIONS:
        chosen = [row for row in rows if row["part"] == part]
        if chosen:
            sections += [f"### {heading}"] if heading else []
            sections.append(_table(chosen, columns))
    return sections


def _table(rows: Sequence[Row], columns: Sequence[tuple[str, Callable[[Row], str]]]) -> str:
    lines = [[heading for heading, _ in columns], ["---", *["---:"] * (len(columns) - 1)]]
    for row in rows:
        failed = [row["name"], f"– {markdown_text(row['reason'])}"] if row.get("reason") else None
        cells = [*failed, *[""] * (len(columns) - 2)] if failed else [cell(row) for _, cell in columns]
        lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _seconds(key: str) -> Callable[[Row], str]:
    return lambda row: f"{row[key]:.3g}" if row[key] < 100 else f"{row[key]:.0f}"


def _percent(key: str, digits: int) -> Callable[[Row], str]:
    return lambda row: f"{100 * row[key]:.{digits}f} %" if row.get(key) is not None else "–"


def _passes(row: Row) -> str:
    if row["runs"] == 1:
        return "1"
    scale = row["seconds_per_10000"] / row["seconds"]
    return f"{row['runs']}: {row['seconds_min'] * scale:.3g} to {row['seconds_max'] * scale:.3g} s"


def _per_image(row: Row, key: str) -> str:
    return f"{1000 * row[key] / row['images']:.1f}"


NAME = ("", lambda row: markdown_text(row["name"]))
IMAGES = ("images", lambda row: f"{row['images']:,}")
BATCH = ("batch", lambda row: str(row.get("batch") or "own"))
ACCURACY = ("accuracy", _percent("accuracy", 2))
ARITHMETIC = ("arithmetic", lambda row: row["arithmetic"])
MEMORY = ("peak memory", lambda row: f"{row['peak_mib']:,.0f} MiB")
SECTIONS = (
    ("simulate", "", (
        NAME, ("s per 10,000", _seconds("seconds_per_10000")), ("passes", _passes), IMAGES, ACCURACY, BATCH,
        ARITHMETIC, ("fires", lambda row: {">=": "≥", ">": ">"}[row["fires"]]),
        ("of fp32 floor", _percent("share_fp32", 0)), ("of bf16 floor", _percent("share_bf16", 0)), MEMORY,
    )),
    ("exact", "", (
        NAME, ARITHMETIC, ("s per 10,000", _seconds("seconds_per_10000")), ("passes", _passes), IMAGES, ACCURACY,
        ("proved by the bound", _percent("certified", 3)), MEMORY,
    )),
    ("floor", "Bare products of all steps, s per 10,000 images", (
        NAME, ("fp32", _seconds("fp32")), ("bf16", _seconds("bf16")),
        ("multiply-accumulates per image", lambda row: f"{row['macs'] * row['steps'] / 1e6:,.1f} million"),
    )),
    ("agreement", "The same input spikes in different arithmetic", (
        NAME, IMAGES, ("predictions that differ, all steps", _percent("predictions_differ", 4)),
        ("final counts that differ", _percent("counts_differ", 4)),
        ("accuracy gap, points", lambda row: f"{100 * row['accuracy_gap'] + 0.0:+.2f}"),
    )),
    ("train", "Training", (
        NAME, ("images per second", lambda row: f"{row['images_per_second']:,.0f}"), IMAGES, BATCH,
        ("test accuracy after them", _percent("accuracy", 2)), ARITHMETIC, MEMORY,
    )),
    ("direct", "Training steps of one batch, Adam included", (
        NAME, ("ms per image", lambda row: f"{1000 / row['images_per_second']:.1f}"),
        ("least to most", lambda row: f"{_per_image(row, 'seconds_min')} to {_per_image(row, 'seconds_max')}"),
        ("steps timed", lambda row: str(row["runs"])), BATCH, ARITHMETIC,
        ("memory per image", lambda row: f"{row['mib_per_image']:.1f} MiB"), MEMORY,
    )),
    ("cost against images", "Ours against the number of images", (
        NAME, IMAGES, ("s", _seconds("seconds")),
        ("ms per image", lambda row: f"{1000 * row['seconds'] / row['images']:.3g}"),
    )),
    ("cost against steps", "Ours against the number of steps", (
        NAME, ("steps", lambda row: str(row["steps"])), IMAGES, ("s", _seconds("seconds")),
        ("ms per image", lambda row: f"{1000 * row['seconds'] / row['images']:.3g}"),
    )),
)  # fmt: skip
