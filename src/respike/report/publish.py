"""Copies of results for the repository: without logs and without large networks."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from respike.report.collect import Run, load_run

KEPT = (
    "config.yaml",
    "metrics.json",
    "curves.csv",
    "activity.csv",
    "image_rates.csv",
    "training.csv",
    "disagreements.csv",
    "provenance.json",
    "figures/*.png",
    "figures/*.gif",
)
SMALL = 200_000  # bytes: networks of up to this size are copied


def publish(runs: Sequence[Run], place: Path) -> list[Run]:
    """Copy the results of the runs to place/runs; returns the runs as they are there."""
    for run in runs:
        copied = place / "runs" / run.path.name
        if (copied / "provenance.json").is_file():
            shutil.rmtree(copied)
        networks = [path for path in run.path.glob("checkpoints/*.pt") if path.stat().st_size < SMALL]
        for path in [*networks, *(file for pattern in KEPT for file in run.path.glob(pattern))]:
            copy = copied / path.relative_to(run.path)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    return [load_run(place / "runs" / run.path.name) for run in runs]
