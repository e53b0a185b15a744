"""Copies of results for the repository: without logs and without large networks."""

import shutil
from collections.abc import Sequence
from pathlib import Path

KEPT = (
    "config.yaml",
    "metrics.json",
    "curves.csv",
    "activity.csv",
    "operations.csv",
    "image_rates.csv",
    "training.csv",
    "disagreements.csv",
    "provenance.json",
    "figures/*.png",
    "figures/*.gif",
)
SMALL = 200_000  # bytes: networks of up to this size are copied


def publish(runs: Sequence[Path], place: Path) -> list[Path]:
    """Copy the results of the runs to place/runs; returns the folders of the copies."""
    for run in runs:
        copied = place / "runs" / run.name
        if (copied / "provenance.json").is_file():
            shutil.rmtree(copied)
        networks = [path for path in run.glob("checkpoints/*.pt") if path.stat().st_size < SMALL]
        for path in [*networks, *(file for pattern in KEPT for file in run.glob(pattern))]:
            copy = copied / path.relative_to(run)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    return [place / "runs" / run.name for run in runs]
